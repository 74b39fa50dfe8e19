import torch
from torch import nn

from dcgan.models.discriminator import BaseDiscriminator
from dcgan.models.generator import BaseGenerator
from dcgan.models.layers import ChannelsLastFlatten, ChannelsLastUnflatten, ConditionalSequential
from dcgan.models.prior import Prior


class SmoothUpsampling(nn.Sequential):
    def __init__(self, in_channels, out_channels, bias=True, *, kernel_size=3):
        blur = nn.AvgPool2d(kernel_size, stride=1, padding=kernel_size // 2, count_include_pad=False)
        conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
        super().__init__(nn.Upsample(scale_factor=2), blur, conv)


class SmoothDownsampling(nn.Sequential):
    def __init__(self, in_channels, out_channels, bias=True):
        conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
        super().__init__(conv, nn.AvgPool2d(3, stride=2, padding=1))


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


class GroupNormalization:
    def __init__(self, groups=2):
        self.groups = groups

    def dense(self, features):  # after a dense layer
        return nn.Identity()

    def conv(self, channels):  # after a convolution
        return nn.GroupNorm(self.groups, channels)


class Truncated(Prior):
    def __call__(self, n, latent_dim, device, rng=None):
        return torch.randn(n, latent_dim, device=device, generator=rng).clamp(-1, 1)


class LinearGenerator(BaseGenerator):
    def __init__(self, image_size, channels, prior, latent_dim=8):
        super().__init__(prior, latent_dim, channels, base_channels=1, classes=0)
        to_map = ChannelsLastUnflatten(channels, image_size)
        self.start = ConditionalSequential(nn.Linear(latent_dim, channels * image_size**2), to_map)
        self.up_blocks, self.to_image, self.output_activation = ConditionalSequential(), nn.Identity(), nn.Tanh()


class LinearDiscriminator(BaseDiscriminator):
    def __init__(self, image_size, channels):
        super().__init__(channels, classes=0, projection=False, pack=1)
        self.down_blocks = ConditionalSequential(nn.Identity())
        self.head = ConditionalSequential(ChannelsLastFlatten())
        self.finalize(channels * image_size**2, spectral_norm=False)
