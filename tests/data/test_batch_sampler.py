"""The order of images, its shards, and resuming within an epoch."""

import pytest
import torch

from dcgan.data.batch_sampler import BatchSampler, ResumableLoader


def test_epoch_has_each_image_once_in_an_order_of_seed_and_epoch():
    sampler = BatchSampler(64, 8, seed=0)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(torch.cat(list(sampler)))
    assert epochs[0].sort().values.tolist() == list(range(64))
    assert epochs[0].tolist() == epochs[2].tolist() != epochs[1].tolist()
    assert torch.cat(list(BatchSampler(64, 8, seed=1))).tolist() != epochs[0].tolist()


def test_last_partial_batch_is_dropped():
    assert [len(batch) for batch in BatchSampler(30, 8, seed=0)] == [8, 8, 8]


def test_ranks_have_disjoint_shards_of_equal_length_that_cover_the_epoch():
    shards = [torch.cat(list(BatchSampler(70, 8, seed=0, rank=rank, world_size=2))).tolist() for rank in range(2)]
    assert len(shards[0]) == len(shards[1]) == 32
    assert len(set(shards[0] + shards[1])) == 64


def build_loader(world_size: int = 1) -> ResumableLoader:
    """Return a loader that prefetches the complete epoch."""
    sampler = BatchSampler(64, 8, seed=0, rank=0, world_size=world_size)
    return ResumableLoader(sampler, lambda sampler: [batch.tolist() for batch in sampler])


@pytest.mark.parametrize("n_batches", [0, 3, 7, 8])
def test_interrupted_epoch_resumes_at_the_next_batch_in_spite_of_prefetching(n_batches):
    uninterrupted = list(build_loader())
    interrupted = build_loader()
    batches = iter(interrupted)
    delivered = [next(batches) for _ in range(n_batches)]
    resumed = build_loader()
    resumed.load_state_dict(interrupted.state_dict())
    # after the last batch, a complete epoch follows
    assert delivered[: n_batches % 8] + list(resumed) == uninterrupted
    assert len(list(resumed)) == 8


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (1, 8)])
def test_another_world_size_resumes_after_as_many_images(before, after):
    interrupted, resumed = build_loader(before), build_loader(after)
    batches = iter(interrupted)
    for _ in range(3):
        next(batches)
    resumed.load_state_dict(interrupted.state_dict())
    assert len(list(resumed)) == len(resumed) - 3 * before // after
    assert len(list(resumed)) == len(resumed)
