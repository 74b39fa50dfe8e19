"""Distances between two distributions of features, computed by torchmetrics."""

from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from dcgan.common.arg_checks import check_int
from dcgan.metrics.base import FeatureMetric, MetricSpec, isolated_library_call
from dcgan.metrics.real_images import FeatureSpace


class PrecomputedFeatures(nn.Module):
    """A replacement of torchmetrics' Inception that returns its input, the features, in double precision.

    Its metrics must have sync_on_compute=False: rank 0 computes alone and would wait for the other ranks indefinitely.
    """

    def __init__(self, num_features: int = 0) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return x.double()


class FrechetDistance(FeatureMetric):
    """|m - m'|^2 + tr(C + C' - 2 (C C')^1/2) between Gaussians fitted to both sets of features (Heusel et al. 2017).

    In Inception's features it is the FID. It decreases with n: compare at equal n only.
    """

    specs = {"frechet": MetricSpec("Frechet distance", "lower")}

    def measure(self, samples: Float[Tensor, "n d"], real: FeatureSpace) -> dict[str, float]:
        if min(len(samples), len(real.test)) < 2:
            return {"frechet": float("nan")}
        metric = FrechetInceptionDistance(PrecomputedFeatures(samples.shape[1]), sync_on_compute=False)
        metric.to(samples.device)
        metric.update(real.test, real=True)
        metric.update(samples, real=False)
        return {"frechet": metric.compute().item()}


class KernelDistance(FeatureMetric):
    """The unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 (Binkowski et al. 2018).

    kid: Mean over random subsets. kid_std: Standard deviation between them.

    Args:
        subsets: Number of subsets, >= 1.
        subset_size: Images in each, >= 2; at most as many as there are.
    """

    specs = {
        "kid": MetricSpec("kernel distance", "lower"),
        "kid_std": MetricSpec("its standard deviation between subsets", ""),
    }

    def __init__(self, subsets: int, subset_size: int) -> None:
        check_int("subsets", subsets, 1, 100_000)
        check_int("subset_size", subset_size, 2)
        self.subsets, self.subset_size = subsets, subset_size

    def measure(self, samples: Float[Tensor, "n d"], real: FeatureSpace) -> dict[str, float]:
        size = min(self.subset_size, len(samples), len(real.test))
        if size < 2:
            return {"kid": float("nan"), "kid_std": float("nan")}
        with isolated_library_call():
            metric = KernelInceptionDistance(
                PrecomputedFeatures(), subsets=self.subsets, subset_size=size, sync_on_compute=False
            )
            metric.update(real.test, real=True)
            metric.update(samples, real=False)
            mean, std = metric.compute()
        return {"kid": mean.item(), "kid_std": std.item()}
