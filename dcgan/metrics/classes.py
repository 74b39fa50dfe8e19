"""What the judge takes the samples for."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.image.inception import InceptionScore

from dcgan.checks import check_int, check_number
from dcgan.metrics.distances import Given
from dcgan.metrics.judge import Judged
from dcgan.metrics.metric import Figure, Metric, library_code
from dcgan.metrics.reference import Reference


class ClassifierScore(Metric):
    """exp E KL(p(y|x) || p(y)), the Inception score with this judge (Salimans et al. 2016), by torchmetrics: the mean
    over parts of the samples. From 1 to the number of classes; it knows nothing of variety inside a class.

    splits: number of parts.
    """

    figures = {"classifier_score": Figure("classifier score, 1 to classes", "higher")}

    def __init__(self, splits: int) -> None:
        check_int("splits", splits, 1)
        self.splits = splits

    def __call__(self, samples: Judged, real: Reference) -> dict[str, float]:
        with library_code():
            metric = InceptionScore(Given(), splits=min(self.splits, len(samples)), sync_on_compute=False)
            metric.update(samples.logits)
            return {"classifier_score": metric.compute()[0].item()}


def class_histogram(logits: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """The share of images that the judge puts into each class."""
    return logits.argmax(dim=1).bincount(minlength=logits.shape[1]).double() / len(logits)


class ClassBalance(Metric):
    """Whether every class is drawn, and as often as among the training images.

    classes: those with at least a tenth of their share of the training images; class_kl: KL(samples' classes ||
    training images' classes) in nats, about (classes - 1) / 2n for perfect samples; sure: share of samples that the
    judge gives a probability of at least `sure_above`.
    """

    figures = {
        "classes": Figure("classes found", "higher"),
        "class_kl": Figure("KL of the classes, nats", "lower"),
        "sure": Figure("share the judge is sure of", "higher"),
    }

    def __init__(self, sure_above: float) -> None:
        check_number("sure_above", sure_above, 0, 1)
        self.sure_above = sure_above

    def __call__(self, samples: Judged, real: Reference) -> dict[str, float]:
        share = class_histogram(samples.logits)
        prior = real.prior.double()
        sure = samples.logits.softmax(dim=1).amax(dim=1) >= self.sure_above
        return {
            "classes": int((share > 0.1 * prior).sum()),
            "class_kl": torch.special.xlogy(share, share / prior).sum().item(),
            "sure": sure.double().mean().item(),
        }


class Modes(Metric):
    """How many classes are drawn at all, be it once: the modes of stacked digits (VEEGAN, Srivastava et al. 2017;
    PacGAN, Lin et al. 2018). It grows with the number of samples, there 26,000. Their KL divergence is `ClassBalance`'s
    class_kl, here to the training images' classes instead of equal shares."""

    figures = {"modes": Figure("modes found, one sample each", "higher")}

    def __call__(self, samples: Judged, real: Reference) -> dict[str, float]:
        return {"modes": int((class_histogram(samples.logits) > 0).sum())}


class LabelAgreement(Metric):
    """How often a conditional generator draws what it was told to: the share of samples that the judge takes for their
    label. The floor is the judge's accuracy on training images, whose labels are the true ones."""

    figures = {"label_agreement": Figure("the judge agrees with the label", "higher")}
    needs_labels = True

    def __call__(self, samples: Judged, real: Reference) -> dict[str, float]:
        assert samples.labels is not None  # `needs_labels`
        return {"label_agreement": (samples.logits.argmax(dim=1) == samples.labels).double().mean().item()}
