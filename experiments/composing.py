"""Configurations for the benchmarks; in a module of its own, for some arms are measured from their first import on."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from dcgan.common.command import CONF
from dcgan.runs import sweeps as sweeps  # registers the resolvers of conf/


def configured(*overrides: str, command: str = "train") -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(command, overrides=list(overrides))
