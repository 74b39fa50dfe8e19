"""Part 2: eager trainings against each other, against a CUDA graph's, and 40 steps against 20 + 20.

Two eager trainings can already differ, because some CUDA kernels add numbers in any order. Their difference is
therefore the yardstick of the others. With deterministic algorithms, all must be bit-identical.
"""

import json
import os
from pathlib import Path

import torch

from experiments.gpu.context import CheckContext, Outcome, parse_context
from experiments.gpu.image_folder import write_images

STEPS = 40
SMALLER = ["model.base_channels=32", "hidden_width=256"]  # smaller checkpoints: they take most of the time
CONFIGURATIONS = {
    "default": [],
    "bf16": ["trainer.precision=bf16-mixed"],
    "fast": ["experiment=fast"],
    "conditional": [*SMALLER, "conditional=concat"],
    "projection, hinge": [*SMALLER, "conditional=projection", "loss=hinge"],
    "two D updates, EMA": [*SMALLER, "discriminator_steps=2", "ema.decay=0.9"],
    "R1": [*SMALLER, "penalty=r1"],
    "WGAN-GP": [*SMALLER, "experiment=wgan_gp"],
    "spectral norm, dropout": [*SMALLER, "discriminator.spectral_norm=true", "discriminator.dropout=0.3"],
    "upsample_conv": [*SMALLER, "model=upsample_conv"],
    "image folder": [*SMALLER, "data=image_folder", "data.image_size=32"],
    "AdamW, cosine, DiffAugment": [
        *SMALLER,
        "optimizer=adamw",
        "scheduler=cosine",
        f"scheduler.steps={STEPS}",
        "augmentation=diffaugment",
    ],
    "lazy R1": [*SMALLER, "penalty=r1", "penalty.every=4"],
    "residual, attention": ["experiment=r3gan", "model.attention_size=14"],
}
# nothing that does not affect the weights, and two rows of metrics
OUTPUTS = [
    "evaluator=none", "logger=none", "samples.steps=[0]", "log.every_n_steps=20", "log.activity_every_n_steps=20",
]  # fmt: skip


def read_weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]


def largest_difference(one: Path, other: Path) -> float:
    """Return the largest difference of two runs' weights, relative to the largest weight of a tensor if that is > 1."""
    a, b = read_weights(one), read_weights(other)
    assert a.keys() == b.keys()
    return max(
        float((a[name].double() - b[name].double()).abs().max() / a[name].abs().max().clamp(min=1)) for name in a
    )


def highest_rate(run: Path) -> float:
    """Return the higher learning rate of the two networks."""
    optimizer = json.loads((run / "summary.json").read_text())["config"]["optimizer"]
    return max(optimizer["discriminator"]["lr"], optimizer["generator"]["lr"])


def compare(context: CheckContext, name: str, extra: list[str]) -> None:
    """Train a configuration in all ways and record the differences of the weights."""
    kind = "deterministic algorithms" if context.deterministic else "default algorithms"
    folder = context.work / f"equality-{kind}-{name}".replace(" ", "-").replace(",", "")
    steps, half = f"max_steps={STEPS}", f"max_steps={STEPS // 2}"

    def train(run: str, graph: bool, *overrides: str) -> Outcome:
        settings = [*context.overrides(graph), *extra, *OUTPUTS, *context.sizes]
        return context.train(*settings, f"hydra.run.dir={folder / run}", *overrides)

    last = folder / "resumed" / "checkpoints" / "last.ckpt"
    trainings = {
        "eager": lambda: train("eager", False, steps),
        "eager again": lambda: train("again", False, steps),
        "graph": lambda: train("graph", True, steps),
        "half": lambda: train("resumed", True, half),
        "resumed": lambda: train("resumed", True, steps, f"ckpt_path={last}"),
    }
    for label, run in trainings.items():
        outcome = run()
        if outcome.code != 0:
            context.record(f"{name}, {kind}", f"{label}: {outcome.last_line}", "trains", False)
            return
    again, graph, resumed = (
        largest_difference(folder / one, folder / other)
        for one, other in (("eager", "again"), ("eager", "graph"), ("graph", "resumed"))
    )
    # a sign that differs in one Adam update moves a weight by twice the rate
    limit = 0.0 if context.deterministic else max(3 * again, 2 * highest_rate(folder / "eager"))
    value = f"eager again {again:.2g}, graph {graph:.2g}, 20 + 20 steps {resumed:.2g}"
    held = max(graph, resumed) <= limit and (again == 0 or not context.deterministic)
    context.record(f"{name}, {kind}", value, f"<= {limit:.2g}", held)


def main() -> None:
    context = parse_context()
    if context.deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # required by torch, before the first use of cuBLAS
    torch.use_deterministic_algorithms(context.deterministic)
    index, n = context.share
    for name, overrides in list(CONFIGURATIONS.items())[index::n]:
        extra = list(overrides)
        if "data=image_folder" in extra:
            images = context.work / f"images-{context.deterministic}"
            write_images(images, 512, 32)
            extra.append(f"data.root={images}")
        compare(context, name, extra)


if __name__ == "__main__":
    main()
