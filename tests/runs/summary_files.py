"""The files of finished runs that a comparison reads, without the training."""

import json
from pathlib import Path

BETTER = {"frechet": "lower", "coverage": "higher", "cb2": "zero"}


def write_run(
    folder: Path,
    seed: int,
    metrics: dict[str, float | None],
    override_keys: tuple[str, ...] = (),
    choices: dict[str, str] | None = None,
    **config: object,
) -> None:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {key}=x\n" for key in override_keys) or "[]")
    data = {"root": str(folder), "seed": seed, "batch_size": 8}
    summary = {
        "metrics": metrics,
        "step": 5,
        "better": BETTER,
        "judge": {"sha256": "0" * 64},
        "choices": {"model": "transposed_conv", "penalty": "none", "trainer": "auto"} | (choices or {}),
        "config": {"seed": seed, "data": data, "max_steps": 5, **config},
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def write_sweep(folder: Path) -> None:
    for model, values in {"transposed_conv": (5.0, 5.2, 5.1), "upsample_conv": (4.0, 4.1, 4.2)}.items():
        for seed, value in enumerate(values):
            metrics = {"frechet": value, "coverage": 0.7 + seed / 100, "cb2": value - 6, "loss_d": 1.0}
            write_run(folder / f"model={model},seed={seed}", seed, metrics, choices={"model": model})
