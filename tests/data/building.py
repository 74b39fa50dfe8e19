"""Data modules built from a config."""

from collections.abc import Iterator

from hydra.utils import instantiate

from dcgan.data.datamodule import BaseDataModule, Batch
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


def batches(data: BaseDataModule) -> Iterator[Batch]:
    """Yield the batches of an epoch as the training step gets them."""
    for batch in data.train_dataloader():
        yield data.on_after_batch_transfer(batch, 0)
