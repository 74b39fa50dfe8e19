"""What each choice on the training step's hot path is worth: `python -m experiments.hot_path.measure` (20 minutes; with
`--parts grid` that part alone, and results.csv keeps what it has of the others).

(1) The step itself, `experiment=fast`: the shipped step against the same step with one choice changed, all arms
alternating. (2) Everything around the step, on a network so small that this is what costs: a bare loop, the Lightning
Trainer around it, the shipped metrics, and four `self.log` calls a step instead of them; and one grid of samples.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import lightning as L
import torch
from hydra.utils import instantiate

from dcgan.gan import GAN
from dcgan.models.layers import ChannelsLastFlatten, ChannelsLastUnflatten
from dcgan.training.callbacks.activation_stats import ActivationStats
from dcgan.training.callbacks.metrics_logger import MetricsLogger
from dcgan.training.callbacks.sample_grids import SampleGrids
from dcgan.training.run import build_gan
from experiments.bench import bare, begin, endless, show, write
from experiments.composing import configured
from experiments.tables import read

HERE = Path(__file__).parent
ROUNDS, STEPS = 9, 10


def seconds(step, real, patch=None) -> float:
    with patch() if patch else nullcontext():
        started = time.perf_counter()
        for i in range(STEPS):
            step((real, None), i)
        return (time.perf_counter() - started) / STEPS


def choices_of_the_step() -> list[dict]:
    config = configured("experiment=fast")
    real = torch.rand(config.data.batch_size, 1, 28, 28) * 2 - 1
    contiguous = bare(config)
    contiguous.to(memory_format=torch.contiguous_format)
    in_place = bare(config)
    for module in in_place.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
    twice = bare(config)
    generate = twice.generator.forward

    def recomputed(z, label):
        generate(z, label)
        return generate(z, label)

    twice.generator.forward = recomputed
    foreach = bare(config)
    for optimizer in foreach.optimizers():
        optimizer.param_groups[0].update(fused=False, foreach=True)
    arms = {
        "shipped": (bare(config).training_step, None),
        "features of a map channel after channel": (bare(config).training_step, channel_after_channel),
        "contiguous instead of channels_last": (contiguous.training_step, None),
        "Adam foreach instead of fused": (foreach.training_step, None),
        "activations in place": (in_place.training_step, None),
        "D not frozen in the G update": (
            bare(config).training_step,
            lambda: mock.patch("dcgan.gan.frozen", nullcontext),
        ),
        "G's forward computed twice": (twice.training_step, None),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    for round_number in range(ROUNDS + 1):
        for name, (step, patch) in arms.items():
            elapsed = seconds(step, real, patch)
            if round_number:  # the first one warms up
                times[name].append(elapsed)
    return rows("step", times)


@contextmanager
def channel_after_channel():
    with (
        mock.patch.object(ChannelsLastFlatten, "forward", lambda self, x: x.flatten(1)),
        mock.patch.object(
            ChannelsLastUnflatten, "forward", lambda self, x: x.unflatten(1, (self.channels, self.size, self.size))
        ),
    ):
        yield


class SelfLogging(GAN):
    """What the tutorials do: four figures a step through Lightning."""

    def training_step(self, batch, batch_idx):
        outputs = super().training_step(batch, batch_idx)
        self.log("loss_d", outputs["loss_d"])
        self.log("loss_g", outputs["loss_g"])
        self.log("d_real", outputs["real_logits"].mean())
        self.log("d_fake", outputs["fake_logits"].mean())
        return outputs


def around_the_step() -> list[dict]:
    config = configured("model.base_channels=4", "model.hidden_width=16", "data.batch_size=8", "data=digits")
    steps = 150

    def fit(kind: type[GAN], shipped: bool) -> float:
        torch.manual_seed(config.seed)
        gan = build_gan(config)
        gan.__class__ = kind
        logger = L.pytorch.loggers.TensorBoardLogger(folder)
        callbacks = [MetricsLogger(25), ActivationStats(100)] if shipped else []
        trainer = L.Trainer(
            accelerator="cpu", max_steps=2 * steps, logger=logger, callbacks=callbacks, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=0 if shipped else 25,
        )  # fmt: skip
        started: list[float] = []
        gan.on_train_batch_start = lambda batch, i: started.append(time.perf_counter())
        trainer.fit(gan, datamodule=instantiate(config.data))
        return (started[-1] - started[10]) / (len(started) - 11)

    def loop() -> float:
        batches, step = endless(config), bare(config).training_step
        for i in range(10):
            step(next(batches), i)
        started = time.perf_counter()
        for i in range(steps - 11):
            step(next(batches), i)
        return (time.perf_counter() - started) / (steps - 11)

    arms = {
        "bare loop": loop,
        "Lightning, nothing logged": lambda: fit(GAN, shipped=False),
        "Lightning, shipped metrics": lambda: fit(GAN, shipped=True),
        "Lightning, four self.log a step": lambda: fit(SelfLogging, shipped=False),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for name, arm in arms.items():
                times[name].append(arm())
    return rows("around", times)


def grid_of_samples() -> list[dict]:
    gan, times = bare(configured("experiment=fast")), []
    with tempfile.TemporaryDirectory() as folder:
        samples = SampleGrids(Path(folder), [0])
        logger = L.pytorch.loggers.TensorBoardLogger(folder)
        trainer = L.Trainer(accelerator="cpu", logger=logger, enable_checkpointing=False)
        for _ in range(ROUNDS):
            started = time.perf_counter()
            samples.save(trainer, gan)
            times.append(time.perf_counter() - started)
    return rows("grid", {"one grid of samples": times})


def rows(part: str, times: dict[str, list[float]]) -> list[dict]:
    """Medians over the rounds; ratios to the first arm of the same round."""
    base = next(iter(times.values()))
    table = []
    for name, values in times.items():
        ratios = sorted(value / one for value, one in zip(values, base, strict=True))
        table.append(
            {
                "part": part,
                "arm": name,
                "ms_per_step": f"{1e3 * statistics.median(values):.2f}",
                "ratio": f"{statistics.median(ratios):.3f}",
                "ratio_quartiles": f"{ratios[len(ratios) // 4]:.3f}-{ratios[-1 - len(ratios) // 4]:.3f}",
            }
        )
    return table


PARTS = {
    "step": choices_of_the_step,
    "around": around_the_step,
    "grid": grid_of_samples,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parts = parser.parse_args().parts
    begin()
    path = HERE / "results.csv"
    kept = [row for row in read(path) if row["part"] not in parts] if path.exists() else []
    table = kept + [row for part in parts for row in PARTS[part]()]
    write(path, table)
    show(sorted(table, key=lambda row: list(PARTS).index(row["part"])))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
