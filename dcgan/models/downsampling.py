"""Downsampling layers: (in_channels, out_channels, bias) -> a module that halves height and width."""

from torch import nn


class StridedConv(nn.Conv2d):
    """A 4x4 convolution of stride 2: the network learns its own downsampling (DCGAN paper, section 3)."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)


class MaxPool(nn.Sequential):
    """A 3x3 convolution, then 2x2 max pooling."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias), nn.MaxPool2d(2))


class AvgPool(nn.Sequential):
    """A 3x3 convolution, then 2x2 average pooling."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias), nn.AvgPool2d(2))
