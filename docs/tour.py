"""Write docs/tour.ipynb from docs/tour.md, and run it: python docs/tour.py

A Python block becomes a cell, and a shell block a cell with its commands, which shows the pictures that they make.
tests/test_tour.py compares the notebook with the page and runs it with networks of a few channels.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PAGE = Path(__file__).with_name("tour.md")
NOTEBOOK = PAGE.with_suffix(".ipynb")
BLOCK = re.compile(r"```(python)?\n(.*?)```\n", re.DOTALL)
PICTURE = re.compile(r"!\[.*?\]\(.*?\)\n\n?")
WRITTEN = re.compile(r"(?:out|hydra\.run\.dir)=(\S+)")
SETUP = """# On a hosted notebook service: the Git address of this repository, which is installed from there
REPOSITORY = ""
if REPOSITORY:
    %pip install --quiet git+$REPOSITORY

# no progress bars, of which a notebook would keep every state
%env TTY_COMPATIBLE=0

from pathlib import Path

from IPython.display import Image, display


def show(path):
    \"\"\"Show the picture of this path, or the last samples of a run.\"\"\"
    path = Path(path)
    display(Image(path if path.is_file() else max(path.glob("samples/*.png"))))
"""


def command_cell(commands: str) -> NotebookNode:
    """Return a cell that runs shell commands and shows the pictures that they write."""
    if "tensorboard" in commands:  # it does not end, so it starts when a reader runs the cell
        logdir = commands.strip().partition("--logdir ")[2]
        cell = f"%load_ext tensorboard\n%tensorboard --logdir {logdir}"
        return new_code_cell(cell, metadata={"tags": ["skip-execution"]})
    lines = [f"!{line}" for line in commands.strip().splitlines()]
    return new_code_cell("\n".join([*lines, *(f'show("{path}")' for path in WRITTEN.findall(commands))]))


def cells(page: str) -> Iterator[NotebookNode]:
    """Yield the cells of the notebook: its text, and a cell for each block of code."""
    introduction, installation, rest = page.partition("```\nmake install && source .venv/bin/activate\n```\n")
    assert installation, "the page begins with the installation"
    yield new_markdown_cell(introduction.strip())
    yield new_code_cell(SETUP.strip())
    texts, kinds, blocks = (BLOCK.split(rest)[i::3] for i in range(3))
    for i, text in enumerate(texts):
        if text := PICTURE.sub("", text).strip():
            yield new_markdown_cell(text)
        if i < len(blocks):
            yield new_code_cell(blocks[i].strip()) if kinds[i] else command_cell(blocks[i])


def notebook(page: str) -> NotebookNode:
    """Return the notebook of a page, without outputs."""
    book = new_notebook(cells=list(cells(page)))
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for number, cell in enumerate(book.cells):
        cell["id"] = f"cell-{number}"  # the same in each version
    return book


def main() -> None:
    book = notebook(PAGE.read_text())
    os.environ.setdefault("DCGAN_DATA_DIR", str(PAGE.parent.parent / "data"))
    with TemporaryDirectory() as folder:  # runs are not written over
        NotebookClient(book, timeout=1200, resources={"metadata": {"path": folder}}).execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # when it ran
    nbformat.write(book, NOTEBOOK)


if __name__ == "__main__":
    main()
