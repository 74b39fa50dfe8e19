"""Environment variables by which a launcher (torchrun, srun, Lightning, submitit) tells each process its rank."""

import os
import socket

from dcgan.common.errors import UserError

LAUNCHER = "DCGAN_LAUNCHER"  # the process ID of rank 0, which starts the other ranks if no launcher does
RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")  # the first one that is set holds


def read_int(name: str) -> int | None:
    """Return the integer >= 0 of an environment variable, None if it is not set.

    Raises:
        UserError: It has another value.
    """
    text = os.environ.get(name)
    if text is not None and not (text.isascii() and text.isdigit()):
        raise UserError(f"the environment variable {name} must be an integer >= 0, got {text!r}: unset it")
    return None if text is None else int(text)


def launcher_rank() -> int:
    """Return the rank that torchrun, Lightning's launcher or SLURM gave to this process, 0 if none did.

    For a run with a config use `dcgan.common.distributed.rank`: a run of one process is always rank 0.
    """
    return next((rank for rank in map(read_int, RANKS) if rank is not None), 0)


def is_one_job() -> bool:
    """Return True if submitit has started this process for one job of a sweep, as one of its ranks."""
    return "SUBMITIT_EXECUTOR" in os.environ


def slurm_tasks() -> int | None:
    """Return the number of tasks that srun starts. None: without SLURM, or in a shell, where Lightning starts them."""
    is_shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return None if is_shell else read_int("SLURM_NTASKS")


def reject_stale_variables(num_nodes: int) -> None:
    """Raise UserError if variables of a launcher are set, but no launcher can have started this process.

    They are left over in a shell, or the launcher was forgotten. torch would wait for ranks that are never started.
    """
    rules = (
        ("RANK", ("MASTER_ADDR",), "torchrun"),
        ("LOCAL_RANK", ("RANK", "SLURM_PROCID", "MASTER_PORT", LAUNCHER), "a launcher"),
        ("SLURM_NTASKS" if slurm_tasks() else "", ("SLURM_PROCID", "RANK"), "srun"),
    )
    for name, partners, launcher in rules:
        if name in os.environ and not any(partner in os.environ for partner in partners):
            raise UserError(
                f"{name} is set, but {launcher} has not started this process: unset {name}, or use {launcher}"
            )
    node = read_int("NODE_RANK")
    if node is not None and node >= num_nodes:
        raise UserError(f"NODE_RANK is {node}, but trainer.num_nodes is {num_nodes}: unset NODE_RANK, or set num_nodes")
    reject_unusable_address()


def reject_unusable_address() -> None:
    """Raise UserError if the ranks cannot meet at MASTER_ADDR and MASTER_PORT."""
    port = read_int("MASTER_PORT")
    if port is not None and not 0 < port < 2**16:
        raise UserError(f"the environment variable MASTER_PORT must be in 1..65535, got {port}: unset it")
    if (host := os.environ.get("MASTER_ADDR")) is not None:
        try:
            socket.getaddrinfo(host, port)
        except OSError as error:
            raise UserError(f"MASTER_ADDR={host} is no address of a machine ({error.strerror}): unset it") from error
    if port is not None and not any(name in os.environ for name in RANKS):  # this process will start the others
        try:
            socket.create_server(("", port)).close()
        except OSError as error:
            raise UserError(f"MASTER_PORT={port} cannot be used ({error.strerror}): unset it") from error


def check_world_size(world_size: int) -> None:
    """Raise UserError if the launcher has started another number of processes than the trainer runs.

    SLURM may start several runs of one process each (`srun -n8` with a seed per task), torchrun may not.
    """
    launched = read_int("WORLD_SIZE") or (slurm_tasks() if world_size > 1 else None) or world_size
    if launched != world_size:
        raise UserError(
            f"the launcher has started {launched} processes, but the trainer runs {world_size}: give trainer=ddp with "
            "trainer.devices and trainer.num_nodes that multiply to that number"
        )
