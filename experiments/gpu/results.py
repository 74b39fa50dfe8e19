"""The results of the GPU check: rows in results.jsonl, and their Markdown table. Imports no torch."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments.tables import Row

RESULTS, TABLE = "results.jsonl", "table.md"
HELD = {True: "held", False: "NOT HELD", None: ""}


def append_row(out: Path, part: int, name: str, value: object, mark: str = "", held: bool | None = None) -> None:
    """Append a row to results.jsonl. Several processes may do so at the same time.

    Args:
        out: The folder of results.jsonl.
        part: Number of the part of the check.
        name: The measurement.
        value: The measured value, as the table shows it.
        mark: The expected value; "": the measurement has none.
        held: True if the value meets its mark; None without a mark.
    """
    row = {"part": part, "name": name, "value": str(value), "mark": mark, "held": held}
    with (out / RESULTS).open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_rows(out: Path) -> list[Row]:
    """Return the complete rows of results.jsonl. A killed process may leave an incomplete line."""
    rows = []
    for line in (out / RESULTS).read_text().splitlines() if (out / RESULTS).exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def count_marks(rows: Iterable[Row]) -> str:
    """Return the number of marks that are held, as a sentence."""
    held = [row["held"] for row in rows if row["held"] is not None]
    return f"{sum(held)} of {len(held)} marks are held."


def format_table(rows: Sequence[Row], header: Mapping[str, str], titles: Mapping[int, str]) -> str:
    """Return the rows as a Markdown document, one section per part.

    Args:
        rows: The rows of results.jsonl.
        header: Facts about the machine and the code, by name.
        titles: Title of each part, in the order of the sections.
    """
    lines = ["# GPU check", "", *(f"- {name}: {value}" for name, value in header.items()), "", count_marks(rows)]
    for part, title in titles.items():
        own = [row for row in rows if row["part"] == part]
        if not own:
            continue
        lines += ["", f"## {part}. {title}", "", "| measurement | value | mark | |", "| --- | --- | --- | --- |"]
        for row in own:
            cells = (row["name"], row["value"], row["mark"], HELD[row["held"]])
            lines.append(f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |")
    return "\n".join([*lines, ""])
