"""Configurations for the benchmarks; in a module of its own, for some arms are measured from their first import on."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from dcgan import cli
from dcgan import sweeps as sweeps  # registers the resolver that conf/train.yaml names


def configured(*overrides: str, command: str = "train") -> DictConfig:
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return compose(command, overrides=list(overrides))
