"""Normalisation layers: each choice says what it puts behind a dense layer and behind a convolution.

`nn.Identity` means "none here"; the layer before it then keeps its own bias.
"""

from torch import nn

from dcgan.checks import check_number


class Batch:
    """Batch normalisation (Ioffe and Szegedy 2015): per feature of a dense layer, per channel of a map.

    momentum: PyTorch's, the weight of the new batch in the running statistics (Keras' .8 is .2 here).
    Raises ValueError unless 0 < momentum <= 1.
    """

    def __init__(self, momentum: float = 0.1) -> None:
        check_number("momentum", momentum, 0, 1, brackets="(]")
        self.momentum = momentum

    def dense(self, features: int) -> nn.Module:
        return nn.BatchNorm1d(features, momentum=self.momentum)

    def conv(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels, momentum=self.momentum)


class Instance:
    """Instance normalisation (Ulyanov et al. 2016): per image and channel; dense layers stay as they are."""

    def dense(self, features: int) -> nn.Module:
        return nn.Identity()

    def conv(self, channels: int) -> nn.Module:
        return nn.InstanceNorm2d(channels, affine=True)


class Layer:
    """Layer normalisation (Ba et al. 2016): per image, over all features or the whole map."""

    def dense(self, features: int) -> nn.Module:
        return nn.LayerNorm(features)

    def conv(self, channels: int) -> nn.Module:
        return nn.GroupNorm(1, channels)


class Nothing:
    """No normalisation."""

    def dense(self, features: int) -> nn.Module:
        return nn.Identity()

    def conv(self, channels: int) -> nn.Module:
        return nn.Identity()


BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)  # whose output depends on the whole batch


def batch_norms(network: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm]:
    return [module for module in network.modules() if isinstance(module, BATCH_NORM)]


Normalization = Batch | Instance | Layer | Nothing
