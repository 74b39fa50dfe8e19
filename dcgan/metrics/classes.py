"""Metrics of the judge's class predictions."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.image.inception import InceptionScore

from dcgan.common.arg_checks import check_int, check_number
from dcgan.metrics.base import Metric, MetricSpec, isolated_library_call
from dcgan.metrics.distances import PrecomputedFeatures
from dcgan.metrics.features import ImageFeatures
from dcgan.metrics.real_images import RealStatistics


class ClassifierScore(Metric):
    """exp E KL(p(y|x) || p(y)), the Inception score with the judge's classes (Salimans et al. 2016), by torchmetrics.

    It lies between 1 and the number of classes and does not measure variety within a class.

    Args:
        splits: Number of parts of the samples whose scores are averaged, >= 1.
    """

    specs = {"classifier_score": MetricSpec("classifier score, 1 to classes", "higher")}
    needs_judge = True

    def __init__(self, splits: int) -> None:
        check_int("splits", splits, 1)
        self.splits = splits

    def __call__(self, samples: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        with isolated_library_call():
            splits = min(self.splits, len(samples))
            metric = InceptionScore(PrecomputedFeatures(), splits=splits, sync_on_compute=False)
            metric.update(samples.logits)
            return {"classifier_score": metric.compute()[0].item()}


def class_histogram(logits: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """Return the share of images that the judge assigns to each class."""
    return logits.argmax(dim=1).bincount(minlength=logits.shape[1]).double() / len(logits)


class ClassBalance(Metric):
    """The classes of the samples compared with those of the training images, and the judge's confidence.

    classes: Number of classes with at least a tenth of their share of the training images.
    class_kl: KL(samples' classes || training images' classes) in nats, about (classes - 1) / 2n for perfect samples.
    confident: Share of samples whose predicted class has a probability of at least `confidence`.

    Args:
        confidence: Probability in [0, 1].
    """

    specs = {
        "classes": MetricSpec("classes found", "higher"),
        "class_kl": MetricSpec("KL of the classes, nats", "lower"),
        "confident": MetricSpec("share of confident predictions", "higher"),
    }
    needs_judge = True

    def __init__(self, confidence: float) -> None:
        check_number("confidence", confidence, 0, 1)
        self.confidence = confidence

    def __call__(self, samples: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        shares, prior = class_histogram(samples.logits), real.class_prior.double()
        confident = samples.logits.softmax(dim=1).amax(dim=1) >= self.confidence
        return {
            "classes": int((shares > 0.1 * prior).sum()),
            "class_kl": torch.special.xlogy(shares, shares / prior).sum().item(),
            "confident": confident.double().mean().item(),
        }


class Modes(Metric):
    """The number of classes with at least one sample: the modes of stacked digits (VEEGAN, Srivastava et al. 2017;
    PacGAN, Lin et al. 2018).

    It grows with the number of samples, 26,000 in those papers. Their KL divergence is `ClassBalance`'s class_kl,
    except that it compares with the training images' classes instead of equal shares.
    """

    specs = {"modes": MetricSpec("modes with at least one sample", "higher")}
    needs_judge = True

    def __call__(self, samples: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        return {"modes": int((class_histogram(samples.logits) > 0).sum())}


class LabelAgreement(Metric):
    """The share of a conditional generator's samples that the judge assigns to the class that they were generated for.

    The baseline is the judge's accuracy on training images.
    """

    specs = {"label_agreement": MetricSpec("share of samples in the class of their label", "higher")}
    needs_judge = True
    needs_labels = True

    def __call__(self, samples: ImageFeatures, real: RealStatistics) -> dict[str, float]:
        assert samples.labels is not None  # `needs_labels`
        return {"label_agreement": (samples.logits.argmax(dim=1) == samples.labels).double().mean().item()}
