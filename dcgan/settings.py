"""A run's settings as flat keys, and which of them change no figure."""

from typing import Any

# which data on this machine, how a run is watched, kept and named
AROUND = (
    *("ckpt_path", "sweep", "skip_finished", "cuda_graph"),
    *("log", "checkpoints", "health", "evaluator", "data.root", "data.workers"),
)
ASIDE = (*AROUND, "samples", "metrics.every_n_steps", "trainer.accelerator", "trainer.strategy")
ASIDE_GROUPS = ("trainer", "evaluator")  # precision and number of processes stay


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def aside(key: str) -> bool:
    """Whether the setting changes no figure, or is the seed, in which runs of one kind differ."""
    return key.rpartition(".")[2] == "seed" or any(key == name or key.startswith(f"{name}.") for name in ASIDE)


def differences(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings of two configs that are not the same in both and not aside. What only one has is younger than the
    other, or goes with a choice that differs, too."""
    old, new = flatten(before), flatten(now)
    return {key: (old[key], new[key]) for key in old if key in new and old[key] != new[key] and not aside(key)}
