"""`python -m dcgan.explore`: the served page, and errors."""

import http.client
import io
import json
import signal
import socket
import time
import urllib.request
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from dcgan import explore
from dcgan.exporting import web_page
from dcgan.exporting.web_page import Explorer
from dcgan.sampling.trained_generator import load_generator
from tests.processes import ForkedProcess


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def render(port: int, *values) -> list:
    """Return the output of the page's function for the values of its sliders."""
    url = f"http://127.0.0.1:{port}/gradio_api/call/render"
    request = urllib.request.Request(url, json.dumps({"data": values}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        event = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as response:
        lines = response.read().decode().splitlines()
    assert lines[0] == "event: complete", lines
    return json.loads(lines[1].removeprefix("data: "))


def status(port: int, method: str = "GET", path: str = "/config", body: bytes | None = None, **headers: str) -> int:
    """Return the HTTP status of a request."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body, headers)
        return connection.getresponse().status


def check_foreign_requests_are_rejected(port: int) -> None:
    own = f"http://127.0.0.1:{port}"
    for headers in ({}, {"Origin": own}, {"Host": "localhost:5000", "Origin": "http://localhost:5000"}):
        assert status(port, **headers) == 200, headers
    for headers in (
        {"Host": "example.com"},
        {"Host": f"127.0.0.1.example.com:{port}"},
        {"Origin": "http://example.com"},
        {"Origin": "null"},
        {"Origin": f"http://localhost:{port}"},  # another site than 127.0.0.1
        {"Host": f"example.com:{port}", "Origin": f"http://example.com:{port}"},  # a name that was rebound to 127.0.0.1
    ):
        assert status(port, **headers) == 403, headers
        assert status(port, "POST", "/gradio_api/queue/join", b"{}", **headers) == 403, headers
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n1\r\n--x--\r\n'
    upload = {"Content-Type": "multipart/form-data; boundary=x"}
    assert status(port, "POST", "/gradio_api/upload", form, **upload) == 413


def wait_for(port: int, process: ForkedProcess) -> bytes:
    for _ in range(3000):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}") as response:
                return response.read()
        except OSError:
            assert process.poll() is None
            time.sleep(0.1)
    raise TimeoutError


# the real command, first with a port that is taken
TWICE = """
import os, sys, tempfile
from hydra.core.hydra_config import HydraConfig
from dcgan import explore

tempfile.tempdir = os.getcwd()
*arguments, taken, free = sys.argv
sys.argv = [*arguments, f"port={taken}"]
try:
    explore.main()
except SystemExit as end:
    assert end.code == 1
else:
    raise AssertionError
HydraConfig.instance().cfg = None
sys.argv = [*arguments, f"port={free}"]
explore.main()
"""


# in another process, as gradio's threads do not end
def test_page_serves_images_on_a_free_port_until_ctrl_c(conditional_run, tmp_path):
    (tmp_path / "twice.py").write_text(TWICE)
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as socket_of_another:
        taken = socket_of_another.getsockname()[1]
        arguments = ["twice.py", f"checkpoint={conditional_run}", "browser=false", str(taken), str(port)]
        process = ForkedProcess(arguments, tmp_path)
        try:
            assert b"DCGAN explorer" in wait_for(port, process)
            with pytest.raises(OSError, match="refused"):  # on the machine's other addresses
                socket.create_connection(("127.0.0.2", port), timeout=2)
            image, prediction = render(port, 3, 1.0, "7", 0.0, 0.0)
            with urllib.request.urlopen(image["url"]) as response, Image.open(io.BytesIO(response.read())) as picture:
                shown = np.array(picture)
            expected = Explorer(load_generator(conditional_run), None, "principal", [0, 1]).render(
                3, 1.0, "7", 0.0, 0.0
            )
            assert np.array_equal(shown, np.array(expected[0]))
            assert len(prediction["confidences"]) == 3
            check_foreign_requests_are_rejected(port)
            (folder,) = {path.parents[1] for path in tmp_path.rglob("*.png")}
            assert folder.name.startswith("dcgan-explore-")
            assert folder.stat().st_mode & 0o777 == 0o700
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(60)
        finally:
            process.kill_group()
    assert process.returncode == 0
    assert f"http://127.0.0.1:{port}" in out
    assert f"error: port {taken} cannot be used" in err
    assert "Traceback" not in err
    assert not folder.exists()
    assert not (tmp_path / "gradio").exists()


def test_page_is_served_only_to_this_machine(command, plain_run, monkeypatch):
    served = []
    monkeypatch.setattr(web_page, "launch", lambda *arguments: served.append(arguments))
    outcome = command(explore, f"checkpoint={plain_run}", "port=7899", "browser=false", "along=coordinate")
    assert outcome.code == 0, outcome.err
    assert "http://127.0.0.1:7899" in outcome.out
    ((explorer, *rest),) = served
    assert rest == ["127.0.0.1", 7899, False]
    assert explorer.judge.facts["data"] == "MNIST"


def test_missing_gradio_is_reported(command, plain_run, monkeypatch):
    monkeypatch.setattr(explore, "find_spec", lambda name: None)
    outcome = command(explore, f"checkpoint={plain_run}")
    assert outcome.code == 1
    assert outcome.err.strip() == "error: the page needs gradio, which is not installed: pip install 'dcgan[explore]'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give checkpoint="),
        (["checkpoint=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["CKPT", "port=0"], "port must be an integer >= 1"),
        (["CKPT", "directions=1"], "directions must be a list"),
        (["CKPT", "along=time"], "along must be one of principal, coordinate"),
        (["CKPT", "directions=[1,9]"], "directions must be from 0 to 7, got 9"),
    ],
)
def test_invalid_arguments_are_rejected(command, plain_run, arguments, message):
    outcome = command(explore, *(f"checkpoint={plain_run}" if a == "CKPT" else a for a in arguments))
    assert outcome.code == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err
