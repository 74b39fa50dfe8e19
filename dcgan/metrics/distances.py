"""Distances between two distributions of the judge's features, computed by torchmetrics."""

from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from dcgan.checks import check_int
from dcgan.metrics.judge import Judged
from dcgan.metrics.metric import Figure, Metric, library_code
from dcgan.metrics.reference import Reference


class Given(nn.Module):
    """In the place of torchmetrics' Inception: hands on what the judge has already found, in double precision.

    The metrics it is given to must have sync_on_compute=False: the first of several processes computes alone, and
    would wait for the others for ever.
    """

    def __init__(self, num_features: int = 0) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return x.double()


class FrechetDistance(Metric):
    """|m - m'|^2 + tr(C + C' - 2 (C C')^1/2) between Gaussians fitted to both sets of features (Heusel et al. 2017).

    Not the FID, whose features are Inception's. It shrinks as n grows: compare at equal n only.
    """

    figures = {"frechet": Figure("Frechet distance, judge's features", "lower")}

    def __call__(self, samples: Judged, real: Reference) -> dict[str, float]:
        if min(len(samples), len(real)) < 2:
            return {"frechet": float("nan")}
        metric = FrechetInceptionDistance(Given(samples.features.shape[1]), sync_on_compute=False)
        metric.update(real.test.features, real=True)
        metric.update(samples.features, real=False)
        return {"frechet": metric.compute().item()}


class KernelDistance(Metric):
    """The unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 (Binkowski et al. 2018): the mean
    over random subsets, and the standard deviation between them.

    subsets: how many; subset_size: of each, smaller where there are fewer images.
    """

    figures = {
        "kid": Figure("kernel distance, judge's features", "lower"),
        "kid_std": Figure("its spread between subsets", ""),
    }

    def __init__(self, subsets: int, subset_size: int) -> None:
        check_int("subsets", subsets, 1)
        check_int("subset_size", subset_size, 2)
        self.subsets, self.subset_size = subsets, subset_size

    def __call__(self, samples: Judged, real: Reference) -> dict[str, float]:
        size = min(self.subset_size, len(samples), len(real))
        if size < 2:
            return {"kid": float("nan"), "kid_std": float("nan")}
        with library_code():
            metric = KernelInceptionDistance(Given(), subsets=self.subsets, subset_size=size, sync_on_compute=False)
            metric.update(real.test.features, real=True)
            metric.update(samples.features, real=False)
            mean, std = metric.compute()
        return {"kid": mean.item(), "kid_std": std.item()}
