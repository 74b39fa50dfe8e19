"""Plot the KL divergence of the protocol's runs over the steps."""

from pathlib import Path

from experiments.plots import plot_curves
from experiments.tables import read_rows

HERE = Path(__file__).parent
PANELS = {"test/class_kl": "KL divergence, nats", "test/confident": "share of confident samples"}


def main() -> None:
    rows = [row for row in read_rows(HERE / "curves.csv") if row["sweep"] in ("protocol", "dcgan")]
    plot_curves(rows, PANELS, HERE / "kl.png")


if __name__ == "__main__":
    main()
