"""Part 10: trainings on a folder of images: on the GPU, in host memory, eager and with a graph."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import dcgan.data.datamodule
from experiments.gpu.context import CheckContext, parse_context

N_IMAGES, SIZE, STEPS = 1024, 64, 300
# name: CUDA graph, images on the GPU
TRAININGS = {
    "images on the GPU, graph": (True, True),
    "images in host memory, graph": (True, False),
    "images in host memory, eager": (False, False),
}


def write_images(folder: Path, n: int, size: int) -> None:
    """Write n random color images as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((size, size)).save(folder / f"{i:05}.png")


def train(context: CheckContext, name: str, images: Path) -> dict[str, torch.Tensor]:
    """Train, record the speed, and return the weights; none if the training fails."""
    graph, on_device = TRAININGS[name]
    run = context.work / name.replace(" ", "-").replace(",", "")
    share = dcgan.data.datamodule.MAX_GPU_SHARE
    dcgan.data.datamodule.MAX_GPU_SHARE = share if on_device else 0.0
    try:
        outcome = context.train(
            *context.overrides(graph), "data=image_folder", f"data.root={images}", f"data.image_size={SIZE}",
            "evaluator=none", "+trainer.deterministic=true", f"max_steps={STEPS if context.on_gpu else 4}",
            f"hydra.run.dir={run}",
        )  # fmt: skip
    finally:
        dcgan.data.datamodule.MAX_GPU_SHARE = share
    if not context.record_end(name, outcome):
        return {}
    speed = json.loads((run / "summary.json").read_text())["images_per_second"]
    context.record(f"{name}: speed", f"{speed:,.0f} images/s")
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")["state_dict"]


def main() -> None:
    context = parse_context()
    images = context.work / "images"
    write_images(images, N_IMAGES, SIZE)
    reference, *others = (train(context, name, images) for name in TRAININGS)
    for name, weights in zip(list(TRAININGS)[1:], others, strict=True):
        equal = bool(weights) and weights.keys() == reference.keys()
        equal = equal and all(torch.equal(weight, reference[key]) for key, weight in weights.items())
        context.record(f"{name}: weights", "equal" if equal else "different", "equal to the first", equal)


if __name__ == "__main__":
    main()
