"""Environment variables of launchers."""

import socket

import pytest

from dcgan.common.errors import UserError
from dcgan.common.launcher import LAUNCHER, check_world_size, launcher_rank, reject_stale_variables

VARIABLES = (
    *("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_NAME", LAUNCHER),
)


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


TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        TORCHRUN,
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"},
        {"SLURM_NTASKS": "8", "SLURM_JOB_NAME": "bash"},
        {"LOCAL_RANK": "1", LAUNCHER: "4711"},
        {"MASTER_ADDR": "localhost", "MASTER_PORT": "65535", "NODE_RANK": "1"},
    ],
)
def test_variables_of_a_launcher_are_accepted(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    reject_stale_variables(num_nodes=2)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2"}, "RANK is set, but torchrun has not started this process: unset RANK"),
        ({"LOCAL_RANK": "1"}, "LOCAL_RANK is set, but a launcher has not started this process: unset LOCAL_RANK"),
        ({"SLURM_NTASKS": "3"}, "SLURM_NTASKS is set, but srun has not started this process: unset SLURM_NTASKS"),
        ({"NODE_RANK": "2"}, "NODE_RANK is 2, but trainer.num_nodes is 2"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT must be in 1..65535, got 0"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT must be in 1..65535, got 65536"),
        ({"MASTER_PORT": "-1"}, "MASTER_PORT must be an integer >= 0, got '-1'"),
        ({"MASTER_ADDR": "no-such-host.invalid"}, "MASTER_ADDR=no-such-host.invalid is no address of a machine"),
    ],
)
def test_stale_variables_are_rejected(monkeypatch, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        reject_stale_variables(num_nodes=2)


def test_port_in_use_is_rejected(monkeypatch):
    with socket.create_server(("", 0)) as server:
        port = str(server.getsockname()[1])
        monkeypatch.setenv("MASTER_PORT", port)
        with pytest.raises(UserError, match=f"MASTER_PORT={port} cannot be used .*: unset it"):
            reject_stale_variables(num_nodes=1)
        monkeypatch.setenv("LOCAL_RANK", "1")  # rank 0 listens there
        reject_stale_variables(num_nodes=1)


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID", "LOCAL_RANK"])
@pytest.mark.parametrize("value", ["", "x", "-1", "1.0"])
def test_rank_that_is_no_integer_is_rejected(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{name} must be an integer >= 0, got {value!r}: unset it"):
        launcher_rank()
