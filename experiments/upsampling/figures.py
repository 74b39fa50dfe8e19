"""Plot the checkerboard metrics from curves.csv, and measure the networks of existing runs.

Of the runs: spectra and images at step 0 and at the end, the training speed (speed.csv), and how uneven G's output is
before the first step (begin.csv).
"""

from pathlib import Path

import torch
from hydra.utils import instantiate
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from dcgan.evaluation.plots import spectrum
from dcgan.metrics.real_images import RealStatistics
from dcgan.sampling.trained_generator import load_generator, sample_latents
from experiments.bench import build_standalone_gan, measure_speeds, start_benchmark, write_results
from experiments.plots import plot_curves
from experiments.runs import add_earlier_rows, config_of, finished_runs, run_columns, seed_0_runs
from experiments.tables import FINISHED, Row, read_rows

HERE = Path(__file__).parent
METRICS = {"test/cb2": "CB2, dB", "test/pv2": "PV2, %", "test/pv4": "PV4, %"}
SPECTRUM_IMAGES, SHOWN_IMAGES = 2000, 4
UNEVENNESS_IMAGES = 500
EDGE = 4  # pixels that unevenness leaves out: near the edges they depend on fewer inputs

Images = UInt8[Tensor, "n c h w"]


def generate_first_and_last(run: Path) -> tuple[Images, Images]:
    """Return the images of the same latent vectors at step 0 and at the end of a run."""
    gan = build_standalone_gan(config_of(run))
    generator = load_generator(run / "checkpoints" / "last.ckpt", "cpu")
    z = sample_latents(gan.generator, SPECTRUM_IMAGES, seed=0)
    return torch.cat([gan.sample(part) for part in z.split(500)]), torch.cat(list(generator.generate(z, None, 500)))


def unevenness(images: Float[Tensor, "n c h w"], period: int) -> float:
    """Return how much the mean brightness differs between pixel phases (i mod period, j mod period).

    The value is the RMS difference from the mean of all phases, in percent of the pixels' standard deviation.
    """
    inner = images[..., EDGE:-EDGE, EDGE:-EDGE]
    phases = torch.stack([inner[..., i::period, j::period].mean() for i in range(period) for j in range(period)])
    return 100 * (phases.std(correction=0) / inner.std()).item()


@torch.no_grad()
def initial_unevenness(run: Path) -> Row:
    """Return the row of begin.csv: the unevenness of G's output before the first step.

    It is measured before the rounding to pixels, which would make the output nearly constant.
    """
    generator = build_standalone_gan(config_of(run)).generator
    images = generator(sample_latents(generator, UNEVENNESS_IMAGES, seed=0))
    return run_columns(run) | {f"unevenness_{period}": f"{unevenness(images, period):.4g}" for period in (2, 4)}


def plot_spectra(runs: dict[str, Path], path: Path) -> None:
    """Plot a column per variant: spectrum and enlarged images at step 0, and the same at the end."""
    figure = Figure(figsize=(2 * (len(runs) + 1), 8), layout="constrained")
    panels = figure.subplots(4, len(runs) + 1)
    data = instantiate(config_of(next(iter(runs.values()))).data)
    real = RealStatistics(data, [], None, torch.device("cpu")).random_test_images(SPECTRUM_IMAGES)
    columns = {name: generate_first_and_last(run) for name, run in runs.items()} | {"test images": (real, real)}
    levels = spectrum(real)
    low, high = levels.amin().item(), levels.amax().item()
    for i, (name, first_and_last) in enumerate(columns.items()):
        panels[0, i].set_title(name.removeprefix("model="), fontsize=10)
        for j, images in enumerate(first_and_last):
            panels[2 * j, i].imshow(spectrum(images).numpy(), vmin=low, vmax=high, cmap="magma")
            mosaic = torch.cat([torch.cat(list(pair), dim=2) for pair in images[:SHOWN_IMAGES].split(2)], dim=1)[0]
            panels[2 * j + 1, i].imshow(mosaic.numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for axes in panels.flatten():
        axes.set_xticks([])
        axes.set_yticks([])
    for row, label in enumerate(("step 0: spectrum", "step 0: images", "end: spectrum", "end: images")):
        panels[row, 0].set_ylabel(label)
    figure.savefig(path, dpi=100)


def main() -> None:
    start_benchmark()
    if runs := finished_runs(HERE.name):
        initial = [initial_unevenness(run) for run in runs]
        write_results(HERE / "begin.csv", add_earlier_rows(HERE / "begin.csv", initial))
    # without failed runs: their checkerboards are so large that no other line would be visible
    curves = [row for row in read_rows(HERE / "curves.csv") if row["step"] != "0" and row["outcome"] == FINISHED]
    speeds: list[Row] = []
    for sweep in dict.fromkeys(row["sweep"] for row in curves):
        rows = [row for row in curves if row["sweep"] == sweep]
        plot_curves(rows, METRICS, HERE / f"{sweep}_checkerboard.png", sweep.replace("_", " "))
        if variants := seed_0_runs(HERE.name, sweep):
            plot_spectra(variants, HERE / f"{sweep}_spectra.png")
            configs = {variant: config_of(run) for variant, run in variants.items()}
            speeds += [{"sweep": sweep} | row for row in measure_speeds(configs)]
    if speeds:
        write_results(HERE / "speed.csv", speeds)


if __name__ == "__main__":
    main()
