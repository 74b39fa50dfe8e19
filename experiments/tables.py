"""Rows of results in CSV files. Imports no torch, so that scripts that only plot start fast."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
FINISHED = "finished"  # the outcome of runs whose metrics are used


def run_key(row: Row) -> tuple[str, str, int]:
    """Return the sweep, the variant and the seed of a row, which identify its run."""
    return row["sweep"], row["variant"], int(row["seed"])


def merge_rows(earlier: Iterable[Row], rows: list[Row]) -> list[Row]:
    """Replace the earlier rows of the runs that have new rows, and sort by run. The order within a run is kept."""
    keys = {run_key(row) for row in rows}
    return sorted([*(row for row in earlier if run_key(row) not in keys), *rows], key=run_key)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV file with a column per name, in the order of first appearance."""
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path, missing_ok: bool = False) -> list[Row]:
    """Return the rows of a CSV file. All values are strings; a missing value is empty.

    Args:
        path: The file.
        missing_ok: Return no rows if the file does not exist.
    """
    if missing_ok and not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))
