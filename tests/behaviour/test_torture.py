"""A short form of `make torture`."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.processes import ForkedProcess
from tests.torture import RUN, SETTINGS, differences, torture

SHORT = ["trainer=cpu", "data.limit=64", "metrics.n=16", "data.batch_size=8", "metrics.every_n_steps=25"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, mnist_root):
    folder = tmp_path_factory.mktemp("torture")
    overrides = [*SETTINGS, *SHORT, *RUN, f"data.root={mnist_root}", "max_steps=60"]
    for name in ("killed", "uninterrupted"):
        (folder / name).mkdir()
    report = torture(folder / "killed", 1, 0, overrides, ForkedProcess)
    torture(folder / "uninterrupted", 0, 0, overrides, ForkedProcess)
    return folder, report


def test_killed_run_ends_as_an_uninterrupted_one(runs):
    folder, report = runs
    assert report.kills.total() == 1
    assert report.resumed_steps[0] > 0
    assert differences(folder / "killed", folder / "uninterrupted") == []


def test_differences_are_found(runs, tmp_path):
    folder, _ = runs
    other = Path(shutil.copytree(folder / "uninterrupted", tmp_path / "other"))
    path = other / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"]["generator.to_image.weight"].view(-1)[0].nextafter_(torch.tensor(9.0))
    torch.save(content, path)
    table = other / "run" / "metrics.csv"
    table.write_text(table.read_text() + table.read_text().splitlines()[-1] + "\n")
    assert differences(folder / "uninterrupted", other) == [
        "run/last.ckpt: .state_dict.generator.to_image.weight",
        "run/metrics.csv",
    ]
