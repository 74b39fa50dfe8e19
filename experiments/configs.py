"""Configs for the benchmarks. Imports no torch, because some benchmarks time a training from its first import."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from dcgan.common.command import CONF
from dcgan.runs import sweeps as sweeps  # registers the resolvers of conf/


def compose_config(*overrides: str, command: str = "train") -> DictConfig:
    """Return the config that `python -m dcgan.COMMAND OVERRIDES` would use."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(command, overrides=list(overrides))
