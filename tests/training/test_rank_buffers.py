from types import SimpleNamespace

import pytest
import torch

from dcgan.training import rank_buffers
from dcgan.training.rank_buffers import load_buffers, mean_running_stats, save_buffers
from tests.building import build_gan
from tests.conftest import TINY

NAME = "generator.start.hidden.norm.running_mean"


@pytest.fixture
def gan(monkeypatch):
    """A GAN on rank 0 of 2, whose running statistics are 1 on this rank and 3 on the other one."""
    gan = build_gan(*TINY)
    for name, buffer in gan.named_buffers():
        if "running_" in name:
            buffer.fill_(1)

    def all_gather(trainer, own):
        # copies, as in a real collective operation
        return [
            {name: value + k if "running_" in name else value.clone() for name, value in own.items()} for k in (0, 2)
        ]

    monkeypatch.setattr(rank_buffers, "all_gather", all_gather)
    return gan


def trainer(rank: int = 0, world_size: int = 2) -> SimpleNamespace:
    return SimpleNamespace(world_size=world_size, global_rank=rank)


def test_mean_is_used_within_the_context_only(gan):
    with mean_running_stats(trainer(), gan):
        assert gan.get_buffer(NAME).unique().tolist() == [2]
    assert gan.get_buffer(NAME).unique().tolist() == [1]


def test_checkpoint_holds_the_mean_and_each_ranks_statistics(gan):
    checkpoint = {"state_dict": gan.state_dict()}
    save_buffers(trainer(), gan, checkpoint)
    assert checkpoint["state_dict"][NAME].unique().tolist() == [2]
    assert [rank[NAME].unique().tolist() for rank in checkpoint["rank_buffers"]] == [[1], [3]]
    assert "fixed_z" not in checkpoint["rank_buffers"][0]
    load_buffers(trainer(rank=1), gan, checkpoint)
    assert gan.get_buffer(NAME).unique().tolist() == [3]


@pytest.mark.parametrize("world_size", [1, 3])
def test_statistics_of_another_number_of_ranks_are_ignored(gan, world_size):
    checkpoint = {"rank_buffers": [{NAME: torch.full_like(gan.get_buffer(NAME), 7)}] * 2}
    load_buffers(trainer(world_size=world_size), gan, checkpoint)
    assert gan.get_buffer(NAME).unique().tolist() == [1]


def test_one_rank_saves_no_statistics_of_its_own(gan):
    checkpoint = {}
    save_buffers(trainer(world_size=1), gan, checkpoint)
    assert checkpoint == {}
