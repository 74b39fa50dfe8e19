"""Part 10: a training on a folder of images, with the CUDA graph: prepared images that are copied to the GPU."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.gpu.context import parse_context

N_IMAGES, SIZE, STEPS = 1024, 64, 100


def write_images(folder: Path, n: int, size: int) -> None:
    """Write n random color images as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((size, size)).save(folder / f"{i:05}.png")


def main() -> None:
    context = parse_context()
    images, run = context.work / "images", context.work / "image-folder"
    write_images(images, N_IMAGES, SIZE)
    outcome = context.train(
        *context.overrides(graph=True), "data=image_folder", f"data.root={images}", f"data.image_size={SIZE}",
        "evaluator=none", f"max_steps={STEPS}", f"hydra.run.dir={run}",
    )  # fmt: skip
    if context.record_end("training on a folder of images", outcome):
        speed = json.loads((run / "summary.json").read_text())["images_per_second"]
        context.record("its speed", f"{speed:,.0f} images/s")


if __name__ == "__main__":
    main()
