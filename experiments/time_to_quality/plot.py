"""curves.csv as curves.png and as a table, and what the arms drew after 240 s, where the race has left their pictures,
as side_by_side.png: `python -m experiments.time_to_quality.plot`.
"""

import statistics
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from experiments.plots import side_by_side
from experiments.tables import read

HERE = Path(__file__).parent
TABLE = (30, 60, 120, 240, 600, 1800)  # seconds
DRAWN = ("fast", "prototype", "defaults", "example")  # the others are variants of `fast`, with one seed each


def main() -> None:
    pictures = {arm: found for arm in DRAWN for found in sorted(HERE.glob(f"{arm}_*_240s.png"))}
    if len(pictures) == len(DRAWN):
        side_by_side(pictures, HERE / "side_by_side.png")
    rows = read(HERE / "curves.csv")
    curves: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        curves[row["arm"]][row["seed"]].append((float(row["seconds"]), float(row["frechet"])))

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for i, arm in enumerate(arm for arm in DRAWN if arm in curves):
        seeds = curves[arm]
        for j, curve in enumerate(seeds.values()):
            label = f"{arm} ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})" if j == 0 else None
            axes.plot(*zip(*sorted(curve), strict=True), color=f"C{i}", lw=1.2, alpha=0.8, label=label)
    ticks = (15, 30, 60, 120, 240, 600, 1200, 1800)
    axes.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="Frechet distance (shipped judge)")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    values = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
    axes.set_yticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title(f"MNIST, {rows[0]['hardware']}, {rows[0]['threads']} threads", fontsize=10)
    figure.savefig(HERE / "curves.png", dpi=120)

    print("| arm | seeds |", " | ".join(f"{second} s" for second in TABLE), "|")
    print("| --- | --- |", " | ".join("---" for _ in TABLE), "|")
    for arm, seeds in curves.items():
        cells = []
        for second in TABLE:
            found = [f for curve in seeds.values() for s, f in curve if abs(s - second) < 0.05 * second]
            spread = f" ({min(found):.2f} to {max(found):.2f}; n = {len(found)})" if len(found) > 1 else ""
            cells.append(f"{statistics.fmean(found):.2f}{spread}" if found else "")
        print(f"| {arm} | {len(seeds)} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
