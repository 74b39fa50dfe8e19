"""What the searches say of each choice: `python -m experiments.time_to_quality.searched`.

The median Frechet distance after the first 25 s over all recipes of a search that had the choice, whatever else they
had. Later rungs would tell less: there the bad recipes are gone.
"""

import statistics
from collections import defaultdict
from pathlib import Path

from experiments.tables import read

HERE = Path(__file__).parent
D_OPTIONS = {  # what an override says of D's regularisation; batch norm where there is none of them
    "discriminator.spectral_norm=true": "spectral norm",
    "penalty=r1": "R1",
    "discriminator.dropout=0.2": "batch norm and dropout",
}


def choices(overrides: list[str]) -> dict[str, str]:
    of_d = [name for override, name in D_OPTIONS.items() if override in overrides]
    named = dict(override.split("=", 1) for override in overrides if override not in D_OPTIONS)
    named.pop("discriminator_normalization", None)
    return named | {"regularisation of D": of_d[0] if of_d else "batch norm"}


def main() -> None:
    for space in ("wide", "narrow"):
        figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for path in sorted(HERE.glob(f"search_{space}_*.csv")):
            for row in read(path):
                overrides = row["overrides"].split()
                if row["rung"] == "0" and len(overrides) > 6:  # the baseline's are fewer
                    for key, choice in choices(overrides).items():
                        figures[key][choice].append(float(row["frechet"]))
        print(f"\n| {space} | median distance after 25 s (recipes), best first |\n| --- | --- |")
        for key, options in figures.items():
            ranked = sorted(options.items(), key=lambda item: statistics.median(item[1]))
            if len(ranked) > 1:
                print(f"| {key} | {', '.join(f'{c}: {statistics.median(f):.0f} ({len(f)})' for c, f in ranked)} |")


if __name__ == "__main__":
    main()
