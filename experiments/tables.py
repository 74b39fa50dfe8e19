"""Rows of results as CSV files, without torch: scripts that only draw start at once."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
LEARNED = "finished"  # the outcome of a run whose figures count


def who(row: Row) -> tuple[str, str, int]:
    """Whose row it is: sweep, arm and seed."""
    return row["sweep"], row["arm"], int(row["seed"])


def together(earlier: Iterable[Row], rows: list[Row]) -> list[Row]:
    """The rows, and the earlier ones of runs that none of them is of; a run's own stay in their order."""
    own = {who(row) for row in rows}
    return sorted([*(row for row in earlier if who(row) not in own), *rows], key=who)


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
