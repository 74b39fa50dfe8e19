"""Rank and world size before Lightning knows them."""

import pytest

from dcgan.common.distributed import (
    check_world_size,
    has_several_processes,
    is_lost_connection,
    launcher_rank,
    rank,
)
from dcgan.common.errors import UserError
from tests.conftest import compose_config

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_NAME")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "1"}, 1),
        ({"SLURM_PROCID": "3", "LOCAL_RANK": "1"}, 3),
        ({"RANK": "5", "SLURM_PROCID": "3", "LOCAL_RANK": "1"}, 5),
    ],
)
def test_launcher_rank_is_the_global_rank_if_known(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launcher_rank() == expected


def test_run_of_one_process_is_rank_0_in_each_slurm_task(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert rank(compose_config("trainer=cpu")) == 0
    assert rank(compose_config("trainer=ddp_cpu")) == 3


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["trainer=cpu"], False),
        (["trainer=gpu"], False),
        (["trainer=gpu", "trainer.devices=[2]"], False),
        (["trainer=gpu", "trainer.devices=2"], True),
        (["trainer=gpu", "trainer.devices=-1"], True),
        (["trainer=gpu", "trainer.devices=[0,1]"], True),
        (["trainer=ddp", "trainer.devices=1"], True),
    ],
)
def test_has_several_processes(overrides, expected):
    assert has_several_processes(compose_config(*overrides)) is expected


@pytest.mark.parametrize(
    ("variables", "world_size"),
    [
        ({}, 1),
        ({}, 4),  # Lightning starts the other ranks
        ({"WORLD_SIZE": "2"}, 2),
        ({"SLURM_NTASKS": "4"}, 4),
        ({"SLURM_NTASKS": "8"}, 1),  # one run per task
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "bash"}, 2),  # in an interactive shell Lightning starts the ranks
    ],
)
def test_matching_world_size_is_accepted(monkeypatch, variables, world_size):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check_world_size(world_size)


@pytest.mark.parametrize(
    ("variables", "world_size"),
    [({"WORLD_SIZE": "2"}, 1), ({"WORLD_SIZE": "2"}, 4), ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train"}, 2)],
)
def test_other_world_size_than_the_launchers_is_rejected(monkeypatch, variables, world_size):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"has started [12] processes, but the trainer runs {world_size}: give trainer"):
        check_world_size(world_size)


def test_lost_connection_is_recognized():
    assert is_lost_connection(RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer"))
    assert not is_lost_connection(RuntimeError("shapes cannot be multiplied"))
    assert not is_lost_connection(ValueError("NCCL"))
