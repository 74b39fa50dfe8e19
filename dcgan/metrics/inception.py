"""The Frechet inception distance (FID) with Inception's features, for comparison with published values."""

from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from dcgan.common.cache import load_or_compute
from dcgan.common.device import tf32
from dcgan.common.errors import UserError, first_line
from dcgan.metrics.base import Metric, MetricSpec
from dcgan.metrics.judge import ImageFeatures
from dcgan.metrics.real_images import RealStatistics

BATCH_SIZE = 100
REAL_STATES = ("real_features_sum", "real_features_cov_sum", "real_features_num_samples")


class InceptionDistance(Metric):
    """The Frechet inception distance (Heusel et al. 2017) to the test images, by torchmetrics.

    It uses the 2,048 features of torch-fidelity's Inception-v3. Grey images get three equal channels. Inception was
    trained on photographs, so that the value means little on digits. 20,000 images take half an hour on two CPU cores.

    Args:
        weights: A local copy of torch-fidelity's weights; None: download them.

    Raises:
        UserError: torch-fidelity or the weights are missing.
    """

    specs = {"inception_fid": MetricSpec("FID, Inception-v3", "lower")}
    needs_judge = False

    def __init__(self, weights: str | None) -> None:
        if weights is not None and not Path(weights).is_file():
            raise UserError(f"there is no file {weights}: evaluator.inception.weights must name Inception's weights")
        try:
            self.distance = FrechetInceptionDistance(
                feature=2048, feature_extractor_weights_path=weights, sync_on_compute=False
            )
        except ModuleNotFoundError as error:
            raise UserError("evaluator=inception needs torch-fidelity: pip install dcgan[inception]") from error
        except Exception as error:  # of any kind, from the download or the file
            raise UserError(
                f"cannot load Inception's weights ({first_line(error)}): download torch-fidelity's "
                "weights-inception-2015-12-05-6726825d.pth on a machine with internet access and set "
                "evaluator.inception.weights=FILE, or omit evaluator=inception"
            ) from error

    def __call__(self, samples: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        device = samples.images.device
        self.distance.to(device).reset()

        def compute() -> dict[str, Tensor]:
            self.update(real.test.images, real=True)
            return {name: getattr(self.distance, name) for name in REAL_STATES}

        for name, state in load_or_compute("inception", [real.cache_key], compute).items():
            setattr(self.distance, name, state.to(device))
        self.update(samples.images, real=False)
        return {"inception_fid": self.distance.compute().item() if len(samples) > 1 else torch.nan}

    @torch.no_grad()
    @tf32(allowed=False)
    def update(self, images: Tensor, real: bool) -> None:
        for batch in images.split(BATCH_SIZE):
            self.distance.update(batch.expand(-1, 3, -1, -1), real=real)
