import torch

from dcgan.metrics.nearest_neighbors import kth_nearest_distances, nearest_distances


def test_nearest_neighbors_match_complete_search():
    rng = torch.Generator().manual_seed(0)
    points, others = torch.rand(1300, 20, generator=rng), torch.rand(700, 20, generator=rng)
    expected, order = torch.cdist(points.double(), others.double()).sort(dim=1)
    distances, indices = nearest_distances(points, others)
    assert torch.allclose(distances.double(), expected[:, :2], atol=1e-4)
    assert torch.equal(indices, order[:, 0])


def test_kth_nearest_distances_match_complete_search():
    points = torch.rand(700, 20, generator=torch.Generator().manual_seed(0))
    expected = torch.cdist(points.double(), points.double()).sort(1).values[:, 3]
    assert torch.allclose(kth_nearest_distances(points, 3).double(), expected, atol=1e-4)
    assert kth_nearest_distances(points[:3], 3).isinf().all()
