from dcgan.runs.plots import comparison_plot
from dcgan.runs.statistics import SeedStatistics


def test_plot_has_a_panel_per_metric_and_a_dot_per_run():
    rows = [("a", SeedStatistics((1.0, 2.0)), None), ("b", SeedStatistics((3.0,)), 0.5)]
    tables = {"frechet": rows, "kid": rows, "cb2": rows, "pv2": rows}
    figure = comparison_plot(tables, dict.fromkeys(tables, "lower") | {"cb2": "zero"})
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title().partition(" ")[0] for axes in panels] == list(tables)
    assert panels[2].get_title() == "cb2 (closer to 0 is better)"
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["a", "b"]
    dots = [line for line in panels[0].lines if line.get_marker() == "."]
    assert [list(line.get_xdata()) for line in dots] == [[1.0, 2.0], [3.0]]
