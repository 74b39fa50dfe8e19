"""The short form of `make torture`."""

from pathlib import Path

import pytest

from tests.torture import SETTINGS, differences, torture

SHORT = [*SETTINGS, "trainer=cpu", "data.limit=64", "metrics.n=16", "data.batch_size=8"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, mnist_root):
    folder = tmp_path_factory.mktemp("torture")
    overrides = [*SHORT, f"data.root={mnist_root}", "max_steps=200"]
    for name in ("tortured", "whole"):
        (folder / name).mkdir()
    story = torture(folder / "tortured", 1, 0, overrides)
    torture(folder / "whole", 0, 0, overrides)
    return folder, story


def test_a_run_that_is_killed_ends_like_an_undisturbed_one(runs):
    folder, story = runs
    assert story.kills.total() == 1
    assert differences(folder / "tortured" / "run", folder / "whole" / "run") == []


def test_the_comparison_sees_a_difference(runs, tmp_path):
    import shutil

    import torch

    folder, _ = runs
    other = Path(shutil.copytree(folder / "whole" / "run", tmp_path / "run"))
    path = other / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"]["generator.to_image.weight"].view(-1)[0].nextafter_(torch.tensor(9.0))
    torch.save(content, path)
    table = other / "metrics.csv"
    table.write_text(table.read_text() + table.read_text().splitlines()[-1] + "\n")
    found = differences(folder / "whole" / "run", other)
    assert found == ["last.ckpt: .state_dict.generator.to_image.weight", "metrics.csv"]
