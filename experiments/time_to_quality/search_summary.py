"""Print how good each choice was in the searches: `python -m experiments.time_to_quality.search_summary`.

The value of a choice is the median Frechet distance after the first 25 s, over all recipes of a search that had it.
Later rungs are not used, because the bad recipes are gone there.
"""

import statistics
from collections import defaultdict
from pathlib import Path

from experiments.tables import read_rows

HERE = Path(__file__).parent
D_REGULARIZATION = {  # by override; batch norm without any of them
    "discriminator.spectral_norm=true": "spectral norm",
    "penalty=r1": "R1",
    "discriminator.dropout=0.2": "batch norm and dropout",
}
BASELINE_OVERRIDES = 6  # the baseline has at most as many; the recipes have more


def choices(overrides: list[str]) -> dict[str, str]:
    """Return the choice of each key, and of D's regularization."""
    regularization = [name for override, name in D_REGULARIZATION.items() if override in overrides]
    chosen = dict(override.split("=", 1) for override in overrides if override not in D_REGULARIZATION)
    chosen.pop("discriminator_normalization", None)
    return chosen | {"regularisation of D": regularization[0] if regularization else "batch norm"}


def distances_by_choice(space: str) -> dict[str, dict[str, list[float]]]:
    """Return the distances at the first rung of a search, by key and choice."""
    distances: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(HERE.glob(f"search_{space}_*.csv")):
        for row in read_rows(path):
            overrides = row["overrides"].split()
            if row["rung"] == "0" and len(overrides) > BASELINE_OVERRIDES:
                for key, choice in choices(overrides).items():
                    distances[key][choice].append(float(row["frechet"]))
    return distances


def main() -> None:
    for space in ("wide", "narrow"):
        print(f"\n| {space} | median distance after 25 s (recipes), best first |\n| --- | --- |")
        for key, options in distances_by_choice(space).items():
            ranked = sorted(options.items(), key=lambda item: statistics.median(item[1]))
            if len(ranked) > 1:
                print(f"| {key} | {', '.join(f'{c}: {statistics.median(f):.0f} ({len(f)})' for c, f in ranked)} |")


if __name__ == "__main__":
    main()
