"""docs/tour.ipynb is the notebook of docs/tour.md, and all its cells run."""

import os
import re
import runpy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.processes import forking_python

DOCS = Path(__file__).parent.parent / "docs"
SMALL = "max_steps=2 model.base_channels=4 data.batch_size=8"


@pytest.fixture(scope="module")
def tour():
    return runpy.run_path(str(DOCS / "tour.py"))


def test_notebook_is_made_from_the_current_page(tour):
    expected = tour["notebook"](tour["PAGE"].read_text())
    written = nbformat.read(tour["NOTEBOOK"], as_version=4)
    assert [cell.source for cell in written.cells] == [cell.source for cell in expected.cells], (
        "run python docs/tour.py"
    )


def test_committed_notebook_has_the_pictures_and_no_errors(tour):
    written = nbformat.read(tour["NOTEBOOK"], as_version=4)
    shown = [cell for cell in written.cells if "show(" in cell.source and "def show" not in cell.source]
    assert len(shown) >= 9
    for cell in shown:
        assert any(
            "image/png" in output.get("data", {}) or "image/gif" in output.get("data", {}) for output in cell.outputs
        )
        assert not any("error" in output.get("text", "") for output in cell.outputs)


def test_all_cells_run(tour, mnist_root, tmp_path, monkeypatch):
    book = tour["notebook"](re.sub(r"max_steps=\d+", SMALL, tour["PAGE"].read_text()))
    monkeypatch.setenv("DCGAN_DATA_DIR", str(mnist_root))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with forking_python(tmp_path):
        NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [(cell.source, output.get("text", "")) for cell in book.cells for output in cell.get("outputs", [])]
    assert [(source, text) for source, text in outputs if "error" in text.lower()] == []
    assert sum("run folder" in text for _, text in outputs) == tour["PAGE"].read_text().count("hydra.run.dir=")
