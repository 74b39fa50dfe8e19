"""Normalization: each choice provides a layer for dense features and one for maps."""

from torch import nn

from dcgan.common.arg_checks import check_number


class Normalization:
    """Base class: normalizes nothing. A layer that `nn.Identity` follows keeps its bias."""

    def dense(self, features: int) -> nn.Module:
        return nn.Identity()

    def conv(self, channels: int) -> nn.Module:
        return nn.Identity()


class BatchNorm(Normalization):
    """Batch normalization (Ioffe and Szegedy 2015): per feature of a dense layer, per channel of a map.

    Args:
        momentum: Weight of the new batch in the running statistics, in (0, 1], as in PyTorch (Keras' 0.8 is 0.2 here).

    Raises:
        ValueError: The momentum is out of range.
    """

    def __init__(self, momentum: float = 0.1) -> None:
        check_number("momentum", momentum, 0, 1, brackets="(]")
        self.momentum = momentum

    def dense(self, features: int) -> nn.Module:
        return nn.BatchNorm1d(features, momentum=self.momentum)

    def conv(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels, momentum=self.momentum)


class InstanceNorm(Normalization):
    """Instance normalization (Ulyanov et al. 2016) of maps, per image and channel; none for dense layers."""

    def conv(self, channels: int) -> nn.Module:
        return nn.InstanceNorm2d(channels, affine=True)


class LayerNorm(Normalization):
    """Layer normalization (Ba et al. 2016): per image, over all features or the complete map."""

    def dense(self, features: int) -> nn.Module:
        return nn.LayerNorm(features)

    def conv(self, channels: int) -> nn.Module:
        return nn.GroupNorm(1, channels)


class NoNorm(Normalization):
    """No normalization."""


BATCH_NORM_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


def batch_norms(network: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm]:
    """Return the layers whose output for one image depends on the other images of the batch."""
    return [module for module in network.modules() if isinstance(module, BATCH_NORM_LAYERS)]
