from dcgan.runs.plots import comparison_plot
from dcgan.runs.statistics import SeedStatistics


def test_plot_has_a_panel_per_table_and_a_dot_per_run():
    rows = [("a", SeedStatistics((1.0, 2.0)), None), ("b", SeedStatistics((3.0,)), 0.5)]
    tables = {"frechet (lower is better)": rows, "kid": rows, "cb2": rows, "pv2": rows}
    panels = [axes for axes in comparison_plot(tables).axes if axes.axison]
    assert [axes.get_title() for axes in panels] == list(tables)
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["a", "b"]
    dots = [line for line in panels[0].lines if line.get_marker() == "."]
    assert [list(line.get_xdata()) for line in dots] == [[1.0, 2.0], [3.0]]
