from types import SimpleNamespace

import pytest

from dcgan.common.errors import CollectiveError
from dcgan.training.callbacks import rank_check
from dcgan.training.callbacks.rank_check import RankConsistencyCheck

GAN = SimpleNamespace(step=5)
TRAINER = SimpleNamespace(datamodule=SimpleNamespace(n_images=64), num_training_batches=4)


def check(monkeypatch, **other_rank: int) -> None:
    monkeypatch.setattr(
        rank_check,
        "all_gather",
        lambda trainer, own: [own, own | {k.replace("_", " "): v for k, v in other_rank.items()}],
    )
    RankConsistencyCheck().on_train_start(TRAINER, GAN)


def test_equal_ranks_are_accepted(monkeypatch):
    check(monkeypatch)


@pytest.mark.parametrize(
    ("other_rank", "message"),
    [
        ({"images": 40}, r"the ranks differ in their images \(64, 40\)"),
        ({"batches_per_epoch": 3}, r"batches per epoch \(4, 3\)"),
        ({"completed_steps": 0}, r"completed steps \(5, 0\): give all ranks the same data and the same run folder"),
    ],
)
def test_different_ranks_are_rejected(monkeypatch, other_rank, message):
    with pytest.raises(CollectiveError, match=message):
        check(monkeypatch, **other_rank)
