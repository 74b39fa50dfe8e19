"""Features of networks that were trained on photographs, for comparison with published values, by torch-fidelity.

Images are first resized with an antialiased bicubic filter ("clean" resizing, Parmar et al. 2022), so that the
networks' own resizing changes nothing. These networks mean little on digits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dcgan.common.cache import digest
from dcgan.common.errors import UserError, first_line
from dcgan.data.datamodule import BaseDataModule
from dcgan.data.pixel_range import resize_images
from dcgan.metrics.features import FeatureExtractor


class PretrainedFeatures(FeatureExtractor):
    """One layer of a network of torch-fidelity. Grey images get three equal channels.

    Args:
        network: A feature extractor of torch-fidelity, built for one layer.
        device: The device of the network and the features.
    """

    batch_size = 50

    def __init__(self, network: Any, device: torch.device) -> None:
        self.network, self.device = network.to(device), device

    def extract(self, images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.network(self.resize(images))[0]

    def resize(self, images: UInt8[Tensor, "b c h w"]) -> UInt8[Tensor, "b 3 s s"]:
        size = (self.network.INPUT_IMAGE_SIZE,) * 2
        x = resize_images(images, images.shape[-1], 3).float()
        return F.interpolate(x, size, mode="bicubic", antialias=True).round_().clamp_(0, 255).to(torch.uint8)


class InceptionFeatures(PretrainedFeatures):
    """The last pooling layer of Inception-v3, 2,048 values: the features of the usual FID (Heusel et al. 2017).

    20,000 images take half an hour on two CPU cores.

    Args:
        data: The real images.
        device: The device of the network and the features.
        weights: A local copy of torch-fidelity's weights; None: download them.

    Raises:
        UserError: torch-fidelity or the weights are missing.
    """

    name = "inception"
    description = "Inception-v3, trained on ImageNet"

    def __init__(self, data: BaseDataModule, device: torch.device, weights: str | None = None) -> None:
        if weights is not None and not Path(weights).is_file():
            raise UserError(f"there is no file {weights}: features.inception.weights must name Inception's weights")
        advice = (
            "download torch-fidelity's weights-inception-2015-12-05-6726825d.pth on a machine with internet access and "
            "set features.inception.weights=FILE"
        )
        with loading_errors(self.name, advice):
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

            network = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=weights
            )
        super().__init__(network, device)
        self.facts = {"weights": weights_digest(network), "resize": "bicubic, antialiased"}


class DINOv2Features(PretrainedFeatures):
    """The class token of DINOv2 ViT-L/14, 1,024 values: the features of FD-DINOv2 (Stein et al. 2023).

    torch.hub downloads the network's code and weights from GitHub, and runs this code.

    Args:
        data: The real images.
        device: The device of the network and the features.

    Raises:
        UserError: torch-fidelity or the weights are missing.
    """

    name = "dinov2"
    description = "DINOv2 ViT-L/14"

    def __init__(self, data: BaseDataModule, device: torch.device) -> None:
        advice = (
            "run the command on a machine with internet access, copy its folder ~/.cache/torch/hub and set TORCH_HOME "
            "to the folder that contains the copy"
        )
        with loading_errors(self.name, advice):
            from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

            network = FeatureExtractorDinoV2("dinov2-vit-l-14", ["dinov2"])
        super().__init__(network, device)
        self.facts = {"weights": weights_digest(network), "resize": "bicubic, antialiased"}


@contextmanager
def loading_errors(name: str, advice: str) -> Iterator[None]:
    """Within the context, errors become a UserError that says how to get the network of that name."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"features={name} needs torch-fidelity: pip install dcgan[fidelity]") from error
    except Exception as error:  # of any kind, from the download or the file
        raise UserError(f"cannot load the network of features={name} ({first_line(error)}): {advice}") from error


def weights_digest(network: torch.nn.Module) -> str:
    """Return the SHA-256 of all weights."""
    weights = network.state_dict()
    return digest([*weights, *weights.values()])
