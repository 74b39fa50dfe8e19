"""The page: what its sliders draw, that only this machine reaches it, and what happens without gradio."""

import io
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image

from dcgan import explore, explorer
from dcgan.checks import UserError
from dcgan.explorer import Explorer
from dcgan.metrics.judge import judge_of
from dcgan.modes.walks import principal_directions
from dcgan.trained import load_generator


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_sliders_move_z_as_they_say(plain_run):
    g = load_generator(plain_run)
    looking = Explorer(g, None, "principal", [0, 2])
    axes = principal_directions(g.network)
    z = 0.7 * g.z(1, 5) + 2 * axes[:1] - 1 * axes[2:3]
    expected = next(g.draw(z))
    picture, verdict = looking.look(5, 0.7, None, 2.0, -1.0)
    assert np.array_equal(np.array(picture)[::18, ::18, 0], expected[0, 0].numpy())
    assert verdict == {}


def test_the_label_and_the_verdict(conditional_run):
    g = load_generator(conditional_run)
    looking = Explorer(g, judge_of(g), "coordinate", [0, 1])
    drawn = [looking.draw(0, 1.0, label, 0.0, 0.0) for label in range(10)]
    assert len({tuple(image.flatten().tolist()) for image in drawn}) == 10
    assert torch.equal(drawn[7], g.sample(1, label=7))
    _, verdict = looking.look(0, 1.0, "7", 0.0, 0.0)
    assert list(verdict) == [str(k) for k in range(10)]
    assert sum(verdict.values()) == pytest.approx(1)
    assert max(verdict, key=verdict.get) == str(judge_of(g)(drawn[7]).logits.argmax().item())


def test_two_directions_are_needed(plain_run):
    with pytest.raises(ValueError, match="directions must be two, got"):
        Explorer(load_generator(plain_run), None, "principal", [1])
    with pytest.raises(UserError, match="directions must be from 0 to 7"):
        Explorer(load_generator(plain_run), None, "principal", [1, 8])


def ask(port: int, *values) -> list:
    """What the page's function returns to the page."""
    url = f"http://127.0.0.1:{port}/gradio_api/call/look"
    request = urllib.request.Request(url, json.dumps({"data": values}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as answer:
        lines = answer.read().decode().splitlines()
    assert lines[0] == "event: complete", lines
    return json.loads(lines[1].removeprefix("data: "))


def wait_for(port: int, process: subprocess.Popen) -> bytes:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}") as answer:
                return answer.read()
        except OSError:
            assert process.poll() is None
            time.sleep(0.1)
    raise TimeoutError


# in a process of its own: gradio leaves threads behind
def test_the_page_draws_what_it_is_asked_for_until_it_is_interrupted(conditional_run):
    port = free_port()
    arguments = ["-m", "dcgan.explore", f"checkpoint={conditional_run}", "browser=false", f"port={port}"]
    # a shell's background jobs ignore Ctrl-C, and what they start inherits that
    heeds = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *arguments], **pipes, preexec_fn=heeds) as process:
        try:
            assert b"DCGAN explorer" in wait_for(port, process)
            with pytest.raises(OSError, match="refused"):  # not on the machine's other addresses
                socket.create_connection(("127.0.0.2", port), timeout=2)
            image, verdict = ask(port, 3, 1.0, "7", 0.0, 0.0)
            with urllib.request.urlopen(image["url"]) as answer, Image.open(io.BytesIO(answer.read())) as picture:
                shown = np.array(picture)
            expected = Explorer(load_generator(conditional_run), None, "principal", [0, 1]).look(3, 1.0, "7", 0.0, 0.0)
            assert np.array_equal(shown, np.array(expected[0]))
            assert len(verdict["confidences"]) == 3
            second = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
            assert second.returncode == 1
            assert f"error: port {port} cannot be used" in second.stderr
            assert "Traceback" not in second.stderr
        finally:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()
            out, err = process.communicate()
    assert process.returncode == 0
    assert f"http://127.0.0.1:{port}" in out.decode()
    assert "Traceback" not in err.decode()


def test_the_command_serves_this_machine_alone(command, plain_run, monkeypatch):
    served = []
    monkeypatch.setattr(explorer, "launch", lambda *arguments: served.append(arguments))
    outcome = command(explore, f"checkpoint={plain_run}", "port=7899", "browser=false", "along=coordinate")
    assert outcome.code == 0, outcome.err
    assert "http://127.0.0.1:7899" in outcome.out
    ((looking, *rest),) = served
    assert rest == ["127.0.0.1", 7899, False]
    assert looking.judge.facts["data"] == "MNIST"


def test_without_gradio_one_sentence_says_how_to_install_it(command, plain_run, monkeypatch):
    monkeypatch.setattr(explore, "find_spec", lambda name: None)
    outcome = command(explore, f"checkpoint={plain_run}")
    assert outcome.code == 1
    assert outcome.err.strip() == ("error: the page needs gradio, which is not installed: pip install 'dcgan[explore]'")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give checkpoint="),
        (["checkpoint=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["CKPT", "port=0"], "port must be an integer >= 1"),
        (["CKPT", "directions=1"], "directions must be a list of integers >= 0, got 1"),
        (["CKPT", "along=time"], "along must be one of principal, coordinate"),
        (["CKPT", "directions=[1,9]"], "directions must be from 0 to 7, got 9"),
    ],
)
def test_mistakes_end_in_a_sentence(command, plain_run, arguments, sentence):
    outcome = command(explore, *(f"checkpoint={plain_run}" if a == "CKPT" else a for a in arguments))
    assert outcome.code == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err
