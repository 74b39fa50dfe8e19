"""The pictures of this study, from curves.csv and, where the runs are still there, from their networks; how fast those
train (speed.csv), and how even they are before the first step (begin.csv)."""

from pathlib import Path

import torch
from hydra.utils import instantiate
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from dcgan.evaluation.plots import spectrum
from dcgan.metrics.real_images import RealStatistics
from dcgan.sampling.trained_generator import load_generator, sample_latents
from experiments.bench import bare, begin, speeds, write
from experiments.plots import over_training
from experiments.study import config_of, examples, finished, identity, with_earlier
from experiments.tables import LEARNED, Row, read

HERE = Path(__file__).parent
FIGURES = {"test/cb2": "CB2, dB", "test/pv2": "PV2, %", "test/pv4": "PV4, %"}
N, SHOWN = 2000, 4  # images of a spectrum, and of them in the picture
BATCH, EDGE = 500, 4  # images that tell how even G begins, and the pixels at their edges, which see fewer inputs


def images(run: Path) -> tuple[Tensor, Tensor]:
    """The same latent vectors through G as it was at step 0 and as it is at the end."""
    gan, trained = bare(config_of(run)), load_generator(run / "checkpoints" / "last.ckpt", "cpu")
    z = sample_latents(gan.generator, N, seed=0)
    return torch.cat([gan.sample(part) for part in z.split(500)]), torch.cat(list(trained.generate(z, None, 500)))


def unevenness(images: Float[Tensor, "n c h w"], period: int) -> float:
    """How much brighter some places are than others, modulo the period, whatever is drawn: RMS over the places, in
    percent of the pixels' standard deviation."""
    inner = images[..., EDGE:-EDGE, EDGE:-EDGE]
    places = torch.stack([inner[..., i::period, j::period].mean() for i in range(period) for j in range(period)])
    return 100 * (places.std(correction=0) / inner.std()).item()


@torch.no_grad()
def began(run: Path) -> Row:
    """How even the run's G was before its first step: of its own values, which are all but one grey as pixels."""
    generator = bare(config_of(run)).generator
    images = generator(sample_latents(generator, BATCH, seed=0))
    return identity(run) | {f"unevenness_{period}": f"{unevenness(images, period):.4g}" for period in (2, 4)}


def spectra(runs: dict[str, Path], path: Path) -> None:
    """A column for each mode: spectrum and enlarged images at step 0, and the same at the end."""
    drawing = Figure(figsize=(2 * (len(runs) + 1), 8), layout="constrained")
    panels = drawing.subplots(4, len(runs) + 1)
    data = instantiate(config_of(next(iter(runs.values()))).data)
    real = RealStatistics(data, None).resized_test_images(N)
    columns = {name: images(run) for name, run in runs.items()} | {"test images": (real, real)}
    levels = spectrum(real)
    low, high = levels.amin().item(), levels.amax().item()
    for i, (name, both) in enumerate(columns.items()):
        panels[0, i].set_title(name.removeprefix("model="), fontsize=10)
        for j, drawn in enumerate(both):
            panels[2 * j, i].imshow(spectrum(drawn).numpy(), vmin=low, vmax=high, cmap="magma")
            four = torch.cat([torch.cat(list(pair), dim=2) for pair in drawn[:SHOWN].split(2)], dim=1)[0]
            panels[2 * j + 1, i].imshow(four.numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for axes in panels.flatten():
        axes.set_xticks([])
        axes.set_yticks([])
    for row, label in enumerate(("step 0: spectrum", "step 0: images", "end: spectrum", "end: images")):
        panels[row, 0].set_ylabel(label)
    drawing.savefig(path, dpi=100)


def main() -> None:
    begin()
    # without failed runs, whose checkerboards are so large that nothing else could be seen
    curves = [row for row in read(HERE / "curves.csv") if row["step"] != "0" and row["outcome"] == LEARNED]
    if runs := finished(HERE.name):
        write(HERE / "begin.csv", with_earlier(HERE / "begin.csv", [began(run) for run in runs]))
    measured: list[Row] = []
    for sweep in dict.fromkeys(row["sweep"] for row in curves):
        own = [row for row in curves if row["sweep"] == sweep]
        over_training(own, FIGURES, HERE / f"{sweep}_checkerboard.png", sweep.replace("_", " "))
        if first := examples(HERE.name, sweep):
            spectra(first, HERE / f"{sweep}_spectra.png")
            measured += [{"sweep": sweep} | row for row in speeds({arm: config_of(run) for arm, run in first.items()})]
    if measured:
        write(HERE / "speed.csv", measured)


if __name__ == "__main__":
    main()
