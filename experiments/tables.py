"""Rows of results as CSV files, without torch: scripts that only draw start at once."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
LEARNED = "finished"  # the outcome of a run whose figures count


def write(path: Path, rows: Iterable[Row]) -> None:
    """A column for each name, in the order of their first appearance."""
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> list[Row]:
    """All values are strings; one that a row did not have is empty."""
    with path.open() as file:
        return list(csv.DictReader(file))
