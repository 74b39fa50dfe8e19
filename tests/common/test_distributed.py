"""Number of processes and rank of a run, before Lightning knows them."""

import pytest

from dcgan.common.distributed import has_several_processes, is_lost_connection, rank
from tests.conftest import compose_config


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


def test_run_of_one_process_is_rank_0_in_each_slurm_task(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert rank(compose_config("trainer=cpu")) == 0
    assert rank(compose_config("trainer=ddp_cpu")) == 3


def test_lost_connection_is_recognized():
    assert is_lost_connection(RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer"))
    assert not is_lost_connection(RuntimeError("shapes cannot be multiplied"))
    assert not is_lost_connection(ValueError("NCCL"))
