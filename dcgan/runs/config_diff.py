"""Compare the settings of two runs, ignoring those that do not affect the results."""

from typing import Any

from dcgan.common.config_tree import flat_items, is_within

# from the command line alone: no checkpoint has them
COMMAND_LINE_KEYS = (
    *("ckpt_path", "run_dir", "trusted", "objective", "trainer", "logger", "callbacks"),
    *("skip_finished", "jobs_per_gpu"),
)
# how a run is named, executed, logged and saved, and where its data is
IGNORED_ON_RESUME = (
    *("ckpt_path", "run_dir", "sweep", "skip_finished", "jobs_per_gpu", "cuda_graph", "trusted", "objective"),
    *("logger", "callbacks", "log", "checkpoints", "health", "evaluator", "features", "data.root", "data.cache_dir"),
)
IGNORED_KEYS = (*IGNORED_ON_RESUME, "samples", "metrics.every_n_steps", "trainer.accelerator", "trainer.strategy")
IGNORED_GROUPS = ("trainer", "evaluator", "features", "search")  # but precision and number of processes are compared


def flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the values of nested dicts by their dotted keys."""
    return {key: value for key, value in flat_items(tree) if not isinstance(value, dict)}


def is_ignored(key: str) -> bool:
    """Return True if the key does not affect the results, or is a seed, which differs between runs of one variant."""
    return key.rpartition(".")[2] == "seed" or is_within(key, IGNORED_KEYS)


def learning_rates(config: Any) -> dict[str, float]:
    """Return the learning rate of each network whose optimizer states one."""
    optimizers = {name: config["optimizer"][name] for name in ("discriminator", "generator")}
    return {name: optimizer["lr"] for name, optimizer in optimizers.items() if "lr" in optimizer}


def config_diff(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return (old, new) of the keys that are in both configs, differ, and are not ignored.

    A key of only one config is new in a version, or belongs to an option that also differs.
    """
    old, new = flatten(before), flatten(now)
    return {key: (old[key], new[key]) for key in old if key in new and old[key] != new[key] and not is_ignored(key)}
