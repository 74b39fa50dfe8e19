"""Check the keys that no constructor checks. Nothing heavy is imported: a mistake is found before torch is."""

from omegaconf import DictConfig

from dcgan.common.arg_checks import check_int

PRECISIONS = ("auto", "32-true", "bf16-mixed")
STRATEGIES = ("auto", "ddp")


def check_plain_keys(cfg: DictConfig) -> None:
    """Raise ValueError for invalid values of the keys that no constructor checks."""
    if cfg.max_steps is not None:
        check_int("max_steps", cfg.max_steps, 1)
    else:
        check_int("max_epochs", cfg.max_epochs, 1)
    check_int("seed", cfg.seed, 0)
    check_int("jobs_per_gpu", cfg.jobs_per_gpu, 1)
    check_int("trainer.num_nodes", cfg.trainer.get("num_nodes", 1), 1)
    if cfg.scheduler is not None and "steps" in cfg.scheduler:
        check_int("scheduler.steps", cfg.scheduler.steps, 1, optional=True)
    if not isinstance(cfg.cuda_graph, bool | None):
        raise ValueError(f"cuda_graph must be true, false or null, got {cfg.cuda_graph!r}")
    for key, allowed in (("precision", PRECISIONS), ("strategy", STRATEGIES)):
        if cfg.trainer[key] not in allowed:
            raise ValueError(f"trainer.{key} must be one of {', '.join(allowed)}, got {cfg.trainer[key]!r}")
