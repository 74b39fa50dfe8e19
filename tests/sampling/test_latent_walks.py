"""Interpolation and traversal of the latent space."""

import numpy as np
import pytest
import torch
from PIL import Image

from dcgan.sampling.latent_walks import DIRECTIONS, PATHS, default_steps, principal_directions, slerp
from dcgan.sampling.trained_generator import load_generator
from tests.building import build_gan
from tests.conftest import TINY

A, B = torch.randn(2, 5, 100, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("path", PATHS)
def test_path_connects_its_ends(path):
    torch.testing.assert_close(PATHS[path](A, B, 0.0), A)
    torch.testing.assert_close(PATHS[path](A, B, 1.0), B)


def test_spherical_path_keeps_the_length_unlike_the_linear_one():
    a, b = A / A.norm(dim=1, keepdim=True) * 10, B / B.norm(dim=1, keepdim=True) * 10
    for t in (0.1, 0.5, 0.8):
        torch.testing.assert_close(slerp(a, b, t).norm(dim=1), torch.full((5,), 10.0))
    assert (PATHS["linear"](a, b, 0.5).norm(dim=1) < 8.5).all()
    half = slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]), 0.5)
    torch.testing.assert_close(half, torch.tensor([[2**0.5, 2**0.5]]))


def test_spherical_path_between_parallel_vectors_is_linear():
    torch.testing.assert_close(slerp(A, 2 * A, 0.5), 1.5 * A)
    assert slerp(A, -A, 0.5).isfinite().all()


def test_default_rows_are_full():
    assert [default_steps(n) for n in (1, 2, 8, 10, 24, 64, 80, 7, 13)] == [1, 2, 8, 10, 8, 8, 10, 7, 13]


@pytest.mark.parametrize("hidden_width", [16, 0])
@pytest.mark.parametrize("conditional", ["none", "concat"])
def test_principal_directions_are_sorted_by_the_response_of_the_first_layer(hidden_width, conditional):
    model = build_gan(*TINY, f"model.hidden_width={hidden_width}", f"conditional={conditional}").generator
    axes = principal_directions(model)
    torch.testing.assert_close(axes @ axes.T, torch.eye(8), atol=1e-5, rtol=0)
    first = model.start.hidden.layer if hidden_width else model.start.project.layer
    with torch.no_grad():

        def response(z):
            inputs = torch.cat((z, torch.zeros(len(z), model.classes)), dim=1)
            x = inputs if hidden_width else inputs[..., None, None]
            return (first(x) - first(torch.zeros_like(x))).flatten(1).norm(dim=1)

        strengths = response(axes)
        assert torch.equal(strengths, strengths.sort(descending=True).values)
        others = torch.nn.functional.normalize(torch.randn(1000, 8), dim=1)
        assert (response(others) <= strengths[0] + 1e-5).all()


def test_traverse_changes_one_coordinate_from_minus_to_plus_extent(dcgan_sample, plain_run):
    g = load_generator(plain_run)
    z = g.z(1, 0).expand(5, -1).clone()
    z[:, 3] = torch.tensor([-2.0, -1, 0, 1, 2])
    expected = torch.cat(list(g.generate(z)))
    outcome = dcgan_sample(
        f"checkpoint={plain_run}",
        "mode=traverse",
        "along=coordinate",
        "directions=[3]",
        "nrow=5",
        "extent=2",
        "out=a.npy",
    )
    assert outcome.code == 0, outcome.err
    assert np.abs(np.load("a.npy").astype(int) - expected[:, 0].numpy().astype(int)).max() <= 1
    assert torch.equal(DIRECTIONS["coordinate"](g.network), torch.eye(8))


def test_interpolation_connects_given_vectors(dcgan_sample, plain_run):
    g = load_generator(plain_run)
    z = g.z(4, 5)
    np.save("z.npy", z.numpy())
    outcome = dcgan_sample(
        f"checkpoint={plain_run}", "mode=interpolate", "z=z.npy", "nrow=3", "path=linear", "out=a.npy"
    )
    assert outcome.code == 0, outcome.err
    rows = torch.stack((z[::2], (z[::2] + z[1::2]) / 2, z[1::2]), dim=1).flatten(0, 1)
    expected = torch.cat(list(g.generate(rows)))
    assert np.abs(np.load("a.npy").astype(int) - expected[:, 0].numpy().astype(int)).max() <= 1


def test_animation_walks_there_and_back(dcgan_sample, plain_run):
    dcgan_sample(f"checkpoint={plain_run}", "mode=interpolate", "n=8", "nrow=2", "out=a.gif", "scale=1")
    with Image.open("a.gif") as gif:
        frames = []
        for i in range(gif.n_frames):
            gif.seek(i)
            frames.append(np.array(gif.convert("L")))
    assert frames[0].shape == (32, 62)
    for i in (1, 2, 3):
        assert np.abs(frames[i].astype(int) - frames[8 - i].astype(int)).max() <= 1
    g = load_generator(plain_run)
    first, last = g.sample(4)[::2], g.sample(4)[1::2]
    for frame, ends in ((frames[0], first), (frames[4], last)):
        for walk, image in enumerate(ends):
            shown = frame[2:30, 2 + 30 * walk : 30 + 30 * walk].astype(int)
            assert np.abs(shown - image[0].numpy().astype(int)).max() <= 1
