"""The plots of an evaluation."""

import re
from types import SimpleNamespace

import pytest
import torch
from matplotlib.figure import Figure

from dcgan.evaluation import plots
from dcgan.metrics.features import ImageFeatures


def points(axes) -> list[torch.Tensor]:
    """Return the points of real and of generated images."""
    return [torch.from_numpy(collection.get_offsets().data) for collection in axes.collections]


def test_features_are_shown_in_the_plane_of_the_real_ones():
    rng = torch.manual_seed(0)
    deviations = torch.tensor([1.0, 9.0, 0.1, 4.0, 0.1])
    real, generated = (torch.randn(400, 5, generator=rng) * deviations for _ in range(2))
    generated[:, 3] += 20
    axes = Figure().subplots()
    plots.plot_features(axes, real, generated)
    of_real, of_generated = points(axes)
    torch.testing.assert_close(of_real.std(dim=0), torch.tensor([9.0, 4.0]).double(), rtol=0.15, atol=0)
    shift = of_generated.mean(dim=0) - of_real.mean(dim=0)
    torch.testing.assert_close(shift.abs(), torch.tensor([0.0, 20.0]).double(), rtol=0.1, atol=2)
    assert re.fullmatch(r"component 1: 8\d% of the variance", axes.get_xlabel())


@pytest.mark.parametrize("shape", [(1, 5), (20, 1), (1, 1)])
def test_few_images_and_dimensions_are_shown(shape):
    axes = Figure().subplots()
    plots.plot_features(axes, torch.ones(shape), torch.zeros(0, shape[1]))
    assert [len(p) for p in points(axes)] == [shape[0], 0]


def random_samples(n: int, classes: int, labels: bool = False) -> ImageFeatures:
    rng = torch.manual_seed(0)
    return ImageFeatures(
        torch.zeros(n, 1, 8, 8, dtype=torch.uint8),
        {"judge": torch.randn(n, 6, generator=rng)},
        torch.eye(max(classes, 1)).repeat(n, 1)[:n, :classes] if not labels else torch.empty(n, 0),
        torch.arange(n) % classes if labels else None,
    )


def fake_real(n: int, classes: int | None, has_judge: bool = True) -> SimpleNamespace:
    features = torch.randn(n, 6, generator=torch.manual_seed(1))
    return SimpleNamespace(
        judge=has_judge or None,
        test_labels=None if classes is None else torch.arange(n) % classes,
        spaces={"judge": SimpleNamespace(test=features)},
        random_test_indices=lambda k: torch.arange(n)[:k],
    )


@pytest.mark.parametrize(
    ("samples", "real", "panels"),
    [
        (random_samples(90, 3), fake_real(60, 3), 3),
        (random_samples(90, 3, labels=True), fake_real(60, 3, has_judge=False), 3),
        (random_samples(90, 3), fake_real(60, None), 0),  # no classes
        (random_samples(90, 0), fake_real(60, 3, has_judge=False), 0),  # unlabeled samples without a judge
        (random_samples(90, 21), fake_real(60, 21), 0),  # too many classes
    ],
)
def test_each_class_has_a_panel(samples, real, panels, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "render", lambda figure: figures.append(figure) or torch.zeros(3, 1, 1).byte())
    plots.feature_figure(samples, real, "judge")
    cells = [axes for axes in figures[0].axes if axes.get_title().startswith("class")]
    (overview,) = [axes for axes in figures[0].axes if axes.get_title().startswith("features of judge")]
    assert [len(p) for p in points(overview)] == [60, 90]
    assert [axes.get_title() for axes in cells] == [f"class {k}" for k in range(panels)]
    assert all([len(p) for p in points(axes)] == [20, 30] for axes in cells)


def test_figure_is_rendered():
    picture = plots.feature_figure(random_samples(50, 7), fake_real(40, 7), "judge")
    assert picture.dtype == torch.uint8
    assert (picture != 255).any()
