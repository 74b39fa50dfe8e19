"""The plots of the studies."""

from matplotlib.figure import Figure

from experiments.plots import plot_curves


def test_curves_are_means_of_finished_runs_and_single_lines_of_failed_ones(tmp_path, monkeypatch):
    rows = [
        {
            "variant": variant,
            "seed": seed,
            "step": str(step),
            "test/frechet": str(step + seed),
            "test/cb2": "",
            "outcome": how,
        }
        for variant in ("a", "b")
        for seed, how in ((0, "finished"), (1, "finished"), (2, "no digits"))
        for step in (2, 4)
    ]
    rows[0]["test/frechet"] = "nan"
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    plot_curves(rows, {"test/frechet": "distance", "test/cb2": "dB"}, tmp_path / "curves.png", "two variants")
    (figure,) = figures
    distance, empty = figure.axes
    lines = [(line.get_linestyle(), list(line.get_xdata()), list(line.get_ydata())) for line in distance.lines]
    failed = (":", [2, 4], [4, 6])
    assert lines == [
        failed,
        ("-", [4], [4.5]),
        failed,
        ("-", [2, 4], [2.5, 4.5]),
    ]  # one run of a has no value at step 2
    assert distance.get_ylabel() == "distance"
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b"]
    assert all(len(line.get_xdata()) == 0 for line in empty.lines)
