"""Part 7: DDP with one rank through NCCL and a CUDA graph, and with two ranks that share a GPU through gloo.

NCCL rejects two ranks on one GPU, and Lightning gives each rank of a node its own GPU. The two ranks are therefore two
nodes with one device each, as torchrun would start them.
"""

import signal
import socket
from pathlib import Path

import torch

from experiments.gpu.callbacks import add_callback
from experiments.gpu.context import CheckContext, ChildProcess, parse_context
from experiments.gpu.faults import wait_for_step

STEPS = 60
WAIT_SECONDS = 80


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start_ranks(context: CheckContext, name: str, run: Path, *overrides: str) -> list[ChildProcess]:
    """Start two ranks of one run, each as a node of one device."""
    trainer = "ddp" if context.on_gpu else "ddp_cpu"
    settings = [
        f"trainer={trainer}", "trainer.devices=1", "trainer.num_nodes=2", "cuda_graph=false", *context.sizes,
        "evaluator=none", f"hydra.run.dir={run}", *overrides,
    ]  # fmt: skip
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": name,
    }  # fmt: skip
    return [
        context.start(
            f"{name}-rank{rank}", "experiments.gpu.launch", "--gloo", *settings,
            environment=shared | {"RANK": str(rank), "NODE_RANK": str(rank), "GROUP_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip


def check_equal_weights(context: CheckContext) -> None:
    """Record that both ranks end with bit-identical parameters."""
    folder = context.work / "ddp-parameters"
    folder.mkdir()
    saved = add_callback("SaveParameters", {"folder": folder})
    ranks = start_ranks(context, "equal", context.work / "ddp-equal", f"max_steps={STEPS}", *saved)
    outcomes = [rank.wait(WAIT_SECONDS) for rank in ranks]
    if not all(context.record_end(f"two ranks, gloo, rank {i}", outcome) for i, outcome in enumerate(outcomes)):
        return
    a, b = (torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    different = [name for name in a if not torch.equal(a[name], b[name])]
    value = f"{len(different)} of {len(a)} parameters differ {' '.join(different[:3])}"
    context.record(f"two ranks, gloo, {STEPS} steps", value, "0", not different)


def check_sigterm(context: CheckContext) -> None:
    """Record that SIGTERM to one rank stops both, after a checkpoint."""
    run = context.work / "ddp-stopped"
    ranks = start_ranks(context, "stopped", run, "max_steps=1000000")
    if not wait_for_step(run, STEPS, ranks[0]):
        for rank in ranks:
            rank.process.kill()
        context.record("two ranks, SIGTERM", f"step {STEPS} is not reached: {ranks[0].wait(5).last_line}", "", False)
        return
    ranks[1].process.send_signal(signal.SIGTERM)
    codes = [rank.wait(WAIT_SECONDS / 2).code for rank in ranks]
    saved = (run / "checkpoints" / "last.ckpt").exists()
    # rank 0 alone reports the error
    held = codes[0] == 143 and codes[1] in (0, 143) and saved
    value = f"exit codes {codes}, {'a' if saved else 'no'} checkpoint"
    context.record("two ranks, SIGTERM to rank 1", value, "143 and 0, a checkpoint", held)


def main() -> None:
    context = parse_context()
    single = {}
    if context.on_gpu:
        settings = ["trainer=ddp", "trainer.devices=1", "evaluator=none", f"max_steps={STEPS}"]
        for graph in ("false", "true"):
            run = f"hydra.run.dir={context.work / f'nccl-{graph}'}"
            child = context.start(f"nccl-{graph}", "dcgan.train", *settings, f"cuda_graph={graph}", run)
            single[f"one rank, NCCL, cuda_graph={graph}"] = child
    else:
        context.record("one rank, NCCL", "not on the CPU")
    check_equal_weights(context)
    check_sigterm(context)
    for name, child in single.items():
        context.record_end(name, child.wait(WAIT_SECONDS))


if __name__ == "__main__":
    main()
