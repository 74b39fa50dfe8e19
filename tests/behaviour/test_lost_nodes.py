"""A run on two nodes loses one: the other one ends, and the run can be resumed with fewer ranks."""

import os
import signal

import pytest
import torch

from dcgan import train
from tests.conftest import TINY
from tests.processes import ForkedProcess, free_port, members, run_forked, two_nodes
from tests.training.test_signals import ENDLESS, wait_for

LAST = "run/checkpoints/last.ckpt"


def assert_ends_with_one_sentence(node: ForkedProcess, sentence: str) -> None:
    """Assert that all processes of the node end within a minute. torchrun adds its own report to the sentence."""
    _, err = node.communicate(60)
    assert node.returncode == 1, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert sentence in line


@pytest.mark.parametrize("lost", [0, 1], ids=["host", "other"])
def test_run_that_loses_a_node_ends_and_is_resumed_with_fewer_ranks(lost, tmp_path, mnist_root, dcgan_train):
    settings = [*ENDLESS, "checkpoints.every_n_steps=5"]
    with two_nodes(tmp_path, train.__file__, *settings, DCGAN_DATA_DIR=str(mnist_root)) as nodes:
        wait_for(tmp_path / "run" / "samples" / "step_000010.png", nodes[0])
        nodes[lost].kill_group()
        assert_ends_with_one_sentence(nodes[1 - lost], "has lost another rank, which has failed or was killed")
    step = torch.load(tmp_path / LAST, weights_only=True)["step"]
    assert step >= 5
    outcome = dcgan_train(f"ckpt_path={LAST}", "trainer=cpu", f"max_steps={step + 2}")
    assert outcome.code == 0, outcome.err
    assert torch.load(tmp_path / LAST, weights_only=True)["step"] == step + 2
    assert "note: 1 process after 2: the run is no longer bit-identical to an uninterrupted one" in outcome.err


SOON = """
from dcgan import train
from dcgan.training import rank_watch

rank_watch.ANSWER_SECONDS, rank_watch.GRACE_SECONDS, rank_watch.NOTE_SECONDS, rank_watch.CONNECT_SECONDS = 10, 0, 1, 2
train.main()
"""


def test_run_ends_if_a_node_stops_without_a_sign(tmp_path, mnist_root):
    """As after a power cut or without a network: its connections stay open."""
    script = tmp_path / "soon.py"
    script.write_text(SOON.replace(", rank_watch.NOTE_SECONDS, rank_watch.CONNECT_SECONDS = 10, 0, 1, 2", " = 10, 0"))
    with two_nodes(tmp_path, str(script), *ENDLESS, DCGAN_DATA_DIR=str(mnist_root)) as nodes:
        wait_for(tmp_path / "run" / "samples" / "step_000010.png", nodes[0])
        for pid in members(nodes[1].pid):
            os.kill(pid, signal.SIGSTOP)
        assert_ends_with_one_sentence(nodes[0], "has lost another rank, whose node has failed or cannot be reached")


def test_rank_ends_if_the_others_never_come(tmp_path, mnist_root):
    (tmp_path / "soon.py").write_text(SOON)
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "0"}
    port = free_port()
    ranks |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    settings = [*TINY, "trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2", "hydra.run.dir=run"]
    done = run_forked("soon.py", *settings, folder=tmp_path, DCGAN_DATA_DIR=str(mnist_root), **ranks)
    assert done.returncode == 1
    note, error = done.stderr.splitlines()
    assert note.startswith(f"note: rank 0 is not connected with all other ranks at 127.0.0.1:{port} yet, and waits 2 s")
    assert error == f"error: rank 0 is not connected with all other ranks at 127.0.0.1:{port} after 2 s"
