import torch
import torch.nn.functional as F

from dcgan.data.pixel_range import resize_images
from dcgan.losses.adversarial import Loss
from dcgan.losses.gradient_penalties import GradientPenalty, gradient_norm_squared
from dcgan.metrics.base import Metric, MetricSpec
from dcgan.metrics.features import FeatureExtractor
from dcgan.models.augmentation import Augmentation


class RelativisticHinge(Loss):
    """Jolicoeur-Martineau 2019, appendix A: the hinge loss, relative to the average logit of the other kind."""

    generator_needs_real = True
    discriminator_minimum = 0.0

    def discriminator(self, real_logits, fake_logits):
        real = F.relu(1 - (real_logits - fake_logits.mean())).mean()
        return real + F.relu(1 + (fake_logits - real_logits.mean())).mean()

    def generator(self, fake_logits, real_logits):
        return self.discriminator(fake_logits, real_logits)


class R2(GradientPenalty):
    """Mescheder et al. 2018: weight / 2 * E[|grad D(G(z))|^2]."""

    of_fake = True

    def penalty(self, critic, real, fake):
        return gradient_norm_squared(*fake).mean() / 2


class InstanceNoise(Augmentation):
    """Sonderby et al. 2017: D sees images with Gaussian noise only."""

    def __init__(self, deviation=0.1):
        self.deviation = deviation

    def inputs(self, x):
        return x + self.deviation * torch.randn_like(x)


class Thumbnails(FeatureExtractor):
    """Small grey images as features."""

    name = "thumbnails"

    def __init__(self, data, device, size):
        self.device, self.size = device, size
        self.description, self.facts = f"{size} x {size} pixels", {"size": size}

    def extract(self, images):
        return resize_images(images, self.size, 1).flatten(1).float()


class Ink(Metric):
    specs = {"ink": MetricSpec("difference of the mean pixel", "zero")}

    def __call__(self, samples, real):
        return {"ink": (samples.images.float().mean() - real.test_images.float().mean()).item()}
