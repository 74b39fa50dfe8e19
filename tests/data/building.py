"""Data modules built from a config."""

from hydra.utils import instantiate

from dcgan.data.datamodule import BaseDataModule
from tests.conftest import compose_config


def build_data(*overrides: str) -> BaseDataModule:
    """Return the data module of these overrides, before its set-up."""
    return instantiate(compose_config("data.batch_size=8", *overrides).data)


def set_up_data(*overrides: str) -> BaseDataModule:
    """Return the data module of these overrides, ready for training."""
    data = build_data(*overrides)
    data.prepare_data()
    data.setup("fit")
    return data
