"""The usual FID, for those who must quote it."""

from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from dcgan.cache import cached
from dcgan.checks import UserError, first_line
from dcgan.metrics.judge import Judged
from dcgan.metrics.metric import Figure, Metric
from dcgan.metrics.reference import Reference

BATCH = 100
REAL_STATES = ("real_features_sum", "real_features_cov_sum", "real_features_num_samples")


class InceptionDistance(Metric):
    """The Frechet inception distance (Heusel et al. 2017) by torchmetrics, with torch-fidelity's Inception-v3 (2,048
    features), of the images as they are, grey ones three times the same channel, against the test images.

    weights: a local copy of torch-fidelity's file; None: it is downloaded. Inception learned on photographs: on digits
    the figure says little. Twenty thousand images take it half an hour on two CPU cores. UserError where torch-fidelity
    or the weights are missing.
    """

    figures = {"inception_fid": Figure("FID, Inception-v3", "lower")}
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
        except Exception as error:  # whatever the download or the file brings
            raise UserError(
                f"Inception's weights cannot be had ({first_line(error)}): download torch-fidelity's "
                "weights-inception-2015-12-05-6726825d.pth on a machine with a network and give its place as "
                "evaluator.inception.weights=FILE, or leave evaluator=inception out"
            ) from error

    def __call__(self, samples: Judged, real: Reference) -> dict[str, float]:
        self.distance.reset()

        def compute() -> dict[str, Tensor]:
            self.update(real.test.images, real=True)
            return {name: getattr(self.distance, name) for name in REAL_STATES}

        for name, state in cached("inception", [real.key], compute).items():
            setattr(self.distance, name, state)
        self.update(samples.images, real=False)
        return {"inception_fid": self.distance.compute().item()} if len(samples) > 1 else {"inception_fid": torch.nan}

    @torch.no_grad()
    def update(self, images: Tensor, real: bool) -> None:
        for part in images.split(BATCH):
            self.distance.update(part.expand(-1, 3, -1, -1), real=real)
