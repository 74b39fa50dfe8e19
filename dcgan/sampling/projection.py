"""Project a picture into the latent space: search the latent vector whose image is most similar to it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from dcgan.common.arg_checks import check_int, check_number
from dcgan.common.errors import UserError
from dcgan.common.image_grid import image_grid
from dcgan.common.progress import progress_bar
from dcgan.data.decoding import FileReader, describe, to_array
from dcgan.data.pixel_range import PixelRange
from dcgan.metrics.random_conv import RandomNetwork
from dcgan.models.generator import BaseGenerator
from dcgan.sampling.base import Animation, ImageSheet, SampleSource, SamplingMode
from dcgan.sampling.trained_generator import TrainedGenerator, split_batches

DEFAULT_N = 8
DEFAULT_FRAMES = 40
LEARNING_RATE = 0.2  # of Adam, at the first step
PRIOR_SAMPLES = 1000  # that show which values of z the prior has

Images = Float[Tensor, "b c s s"]
Z = Float[Tensor, "b latent_dim"]
Label = Int64[Tensor, " b"] | None


def read_picture(path: Path, image_size: int, channels: int) -> UInt8[Tensor, "1 c s s"]:
    """Read a picture and convert it as training images are. UserError if it cannot be read."""
    try:
        picture, _ = FileReader(str(path.parent))(path.name)
        return torch.from_numpy(to_array(picture, image_size, channels).copy())[None]
    except Exception as error:  # Pillow raises a dozen types
        raise UserError(f"{path} cannot be read as a picture ({describe(error)}): choose another image=") from error


class Dissimilarity:
    """The distance of images from a target: the mean squared difference of pixels in [0, 1], and that of features.

    The features are those of `RandomNetwork`. Their squared distance is relative to the squared length of the target's.

    Args:
        target: The image to compare with, in the networks' range.
        pixels: This range.
        feature_weight: Weight of the features, >= 0.
    """

    def __init__(self, target: Float[Tensor, "1 c s s"], pixels: PixelRange, feature_weight: float) -> None:
        self.pixels, self.feature_weight = pixels, feature_weight
        self.network = RandomNetwork(target.shape[-1], target.device)
        self.target = self.normalize(target)
        self.target_features = self.features(self.target)

    def normalize(self, x: Images) -> Images:
        """Map the networks' range to [0, 1]."""
        return (x - self.pixels.low) * (self.pixels.scale / 255)

    def features(self, x: Images) -> Float[Tensor, "b d"]:
        size = (self.network.size, self.network.size)
        return self.network(F.interpolate(2 * x - 1, size, mode="bilinear", antialias=True).expand(-1, 3, -1, -1))

    def __call__(self, x: Images) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return the distance of each image, and the part of it that is due to the pixels."""
        x = self.normalize(x)
        of_pixels = (x - self.target).square().flatten(1).mean(dim=1)
        of_features = (self.features(x) - self.target_features).square().sum(dim=1)
        return of_pixels + self.feature_weight * of_features / self.target_features.square().sum(), of_pixels


@dataclass(frozen=True, eq=False)
class Course:
    """One start over the steps of a search.

    Args:
        z: The latent vectors, at the start and after each step.
        pixel_errors: The root-mean-square difference of the pixels, in [0, 1].
        distance: The distance of the last image.
        label: The class of the images of a conditional model.
    """

    z: Float[Tensor, "steps latent_dim"]
    pixel_errors: Float[Tensor, " steps"]
    distance: float
    label: int | None


@dataclass(frozen=True, eq=False)
class Search:
    """Minimizes the distance of a generator's images with Adam.

    The vectors stay where the prior has values: their components and lengths are at most the largest of its samples.

    Args:
        network: The generator's network.
        distance: To minimize.
        steps: Steps of Adam, >= 1.
        prior_samples: Samples of z.
    """

    network: BaseGenerator
    distance: Dissimilarity
    steps: int
    prior_samples: Z

    def states(self, z: Z, label: Label) -> Iterator[tuple[Z, Float[Tensor, " b"], Float[Tensor, " b"]]]:
        """Yield the vectors and what `distance` returns, at the start and after each step."""
        max_component, max_length = self.prior_samples.abs().max(), self.prior_samples.norm(dim=1).max()
        z = z.clone().requires_grad_()
        optimizer = Adam([z], LEARNING_RATE)
        scheduler = CosineAnnealingLR(optimizer, self.steps)
        for step in range(self.steps + 1):
            distances, of_pixels = self.distance(self.network(z, label))
            yield z.detach().clone(), distances.detach(), of_pixels.detach()
            if step < self.steps:
                (z.grad,) = torch.autograd.grad(distances.sum(), z)  # of the weights, none are needed
                optimizer.step()
                scheduler.step()
                with torch.no_grad():
                    z.clamp_(-max_component, max_component)
                    z.mul_((max_length / z.norm(dim=1, keepdim=True)).clamp(max=1))

    def best_course(self, z: Z, label: Label, advance: Callable[[], None]) -> Course:
        """Return the course of the best of these starts. `advance` is called at each step."""
        states = []
        for state in self.states(z, label):
            states.append(state)
            advance()
        vectors, distances, of_pixels = (torch.stack(values).cpu() for values in zip(*states, strict=True))
        best = int(distances[-1].argmin())
        best_label = None if label is None else int(label[best])
        return Course(vectors[:, best], of_pixels[:, best].sqrt(), distances[-1, best].item(), best_label)


@dataclass(kw_only=True)
class Projection(SamplingMode):
    """The picture of a file, and the generator's most similar image over the steps of its search.

    Random starts are optimized together, and the one with the smallest distance at the end is shown (Creswell and
    Bharath 2018, "Inverting the generator of a generative adversarial network").

    Args:
        n: Images of a sheet, the picture included, or frames of an animation, >= 2; None: 8 images, or 40 frames.
        seed: Seed of the starts, >= 0.
        label: Class of the images of a conditional model; None: all classes are tried.
        image: A JPEG, PNG, WebP, BMP or TIFF file. It is scaled, cropped and converted as training images are.
        steps: Steps of Adam, >= 1.
        starts: Random starts, of each class that is tried, >= 1.
        feature_weight: Weight of the features in the distance (see `Dissimilarity`), >= 0.
    """

    image: str | None
    steps: int
    starts: int
    feature_weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("n", self.n, 2, optional=True)
        check_int("steps", self.steps, 1)
        check_int("starts", self.starts, 1)
        check_number("feature_weight", self.feature_weight, 0, float("inf"), brackets="[)")
        if self.image is None:
            raise UserError("mode=project needs a picture: give image=FILE.png")

    def image_sheet(self, source: SampleSource) -> ImageSheet:
        n = self.n or DEFAULT_N
        picture, course = self.project(source)
        images, captions = self.generate(source, course, n - 1)
        captions, notes = ["picture", *captions], self.notes(course)
        return ImageSheet(torch.cat((picture, images)), n, captions, latents=course.z[-1:], notes=notes)

    def animation(self, source: SampleSource) -> Animation:
        picture, course = self.project(source)
        images, captions = self.generate(source, course, self.n or DEFAULT_FRAMES)
        frames = [image_grid(torch.stack((picture[0], image)), 2) for image in images]
        return Animation(frames, captions, self.notes(course))

    def project(self, source: SampleSource) -> tuple[UInt8[Tensor, "1 c s s"], Course]:
        """Return the picture as a training image, and the course of the best start."""
        generator, labels = source.generator, self.start_labels(source.generator)
        z = source.z(self.starts if labels is None else len(labels), self.seed)
        _, channels, size, _ = next(generator.generate(z[:1], None if labels is None else labels[:1])).shape
        picture = read_picture(Path(str(self.image)), size, channels)
        target = generator.pixels.encode(picture).to(generator.device)
        distance = Dissimilarity(target, generator.pixels, self.feature_weight)
        prior_samples = source.z(PRIOR_SAMPLES, self.seed).to(generator.device)
        search = Search(generator.network, distance, self.steps, prior_samples)
        batches = list(split_batches(z, labels, source.batch_size))
        with progress_bar() as progress:
            task = progress.add_task(f"projecting {self.image}", total=len(batches) * (self.steps + 1))
            courses = [
                search.best_course(
                    batch.to(generator.device),
                    None if label is None else label.to(generator.device),
                    partial(progress.advance, task),
                )
                for batch, label in batches
            ]
        return picture, min(courses, key=lambda course: course.distance)

    def start_labels(self, generator: TrainedGenerator) -> Label:
        """Return the label of each start, None for an unconditional model."""
        if generator.classes and self.label is None:
            return torch.arange(generator.classes).repeat_interleave(self.starts)
        return generator.labels(self.starts, self.seed, self.label)

    def generate(self, source: SampleSource, course: Course, n: int) -> tuple[UInt8[Tensor, "m c s s"], list[str]]:
        """Return up to n images of a course and their captions. The first steps, which change most, are denser."""
        steps = sorted({round(self.steps * t**2) for t in torch.linspace(1, 0, n).tolist()})
        labels = None if course.label is None else torch.full((len(steps),), course.label)
        return source.generate(course.z[steps], labels), [f"step {step}" for step in steps]

    def notes(self, course: Course) -> tuple[str, ...]:
        class_ = "" if course.label is None else f", class {course.label}"
        return (
            f"root-mean-square difference of the pixels: {course.pixel_errors[0]:.3f} at the start, "
            f"{course.pixel_errors[-1]:.3f} after {self.steps} steps{class_}",
        )
