"""What each choice on the training step's hot path is worth: `python experiments/hot_path/measure.py`.

Two questions. (1) The step itself, demo recipe: the shipped step against the same step with one choice changed, all
arms alternating. (2) Everything around the step, on a network so small that this is what costs: a bare loop, the
Lightning Trainer around it, the shipped metrics, and four `self.log` calls a step instead of them; and one grid of
samples, of which a run draws some twenty.
"""

import csv
import statistics
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from dcgan import cli, report
from dcgan import sweeps as sweeps  # registers the resolver that conf/train.yaml names
from dcgan.callbacks import Activity, Monitor, Samples
from dcgan.gan import GAN
from dcgan.training import build_gan

HERE = Path(__file__).parent
ROUNDS, STEPS = 9, 10


def configured(*overrides: str):
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def build(config) -> GAN:
    torch.manual_seed(0)
    return build_gan(config)


def bare_step(gan: GAN, fused: bool = True):
    """The training step without a Trainer."""
    optimizers = [
        torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999), fused=fused)
        for network in (gan.discriminator, gan.generator)
    ]
    gan.optimizers = lambda: optimizers
    gan.manual_backward = lambda loss: loss.backward()
    return gan.training_step


def seconds(step, real, patch=None) -> float:
    with patch() if patch else nullcontext():
        started = time.perf_counter()
        for i in range(STEPS):
            step((real, None), i)
        return (time.perf_counter() - started) / STEPS


def choices_of_the_step() -> list[dict]:
    config = configured("experiment=demo")
    real = torch.rand(config.data.batch_size, 1, 28, 28) * 2 - 1
    contiguous = build(config)
    contiguous.to(memory_format=torch.contiguous_format)
    in_place = build(config)
    for module in in_place.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
    twice = build(config)
    generate = twice.generator.forward

    def recomputed(z):
        generate(z)
        return generate(z)

    twice.generator.forward = recomputed
    arms = {
        "shipped": (bare_step(build(config)), None),
        "contiguous instead of channels_last": (bare_step(contiguous), None),
        "Adam foreach instead of fused": (bare_step(build(config), fused=False), None),
        "activations in place": (bare_step(in_place), None),
        "D not frozen in the G update": (bare_step(build(config)), lambda: mock.patch("dcgan.gan.frozen", nullcontext)),
        "G's forward computed twice": (bare_step(twice), None),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    for round_number in range(ROUNDS + 1):
        for name, (step, patch) in arms.items():
            elapsed = seconds(step, real, patch)
            if round_number:  # the first one warms up
                times[name].append(elapsed)
    return rows("step", times)


class SelfLogging(GAN):
    """What the tutorials do: four figures a step through Lightning."""

    def training_step(self, batch, batch_idx):
        outputs = super().training_step(batch, batch_idx)
        self.log("loss_d", outputs["loss_d"])
        self.log("loss_g", outputs["loss_g"])
        self.log("d_real", outputs["real_logits"].mean())
        self.log("d_fake", outputs["fake_logits"].mean())
        return outputs


def around_the_step(folder: Path) -> list[dict]:
    config = configured("model.base_channels=4", "model.hidden_width=16", "data.batch_size=8", "data=digits")
    steps = 150

    def fit(kind: type[GAN], shipped: bool) -> float:
        gan = build(config)
        gan.__class__ = kind
        logger = L.pytorch.loggers.TensorBoardLogger(folder)
        callbacks = [Monitor(25), Activity(100)] if shipped else []
        trainer = L.Trainer(
            accelerator="cpu", max_steps=2 * steps, logger=logger, callbacks=callbacks, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=0 if shipped else 25,
        )  # fmt: skip
        started: list[float] = []
        gan.on_train_batch_start = lambda batch, i: started.append(time.perf_counter())
        trainer.fit(gan, datamodule=instantiate(config.data))
        return (started[-1] - started[10]) / (len(started) - 11)

    def loop() -> float:
        data = instantiate(config.data)
        data.setup("fit")
        batches = iter(data.train_dataloader())
        step = bare_step(build(config))
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
    for _ in range(ROUNDS):
        for name, arm in arms.items():
            times[name].append(arm())
    gan = build(configured("experiment=demo"))
    samples = Samples(folder, [0])
    logger = L.pytorch.loggers.TensorBoardLogger(folder)
    trainer = L.Trainer(accelerator="cpu", logger=logger, enable_checkpointing=False)
    grids = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        samples.draw(trainer, gan)
        grids.append(time.perf_counter() - started)
    return rows("around", times) + rows("grid", {"one grid of samples, demo recipe": grids})


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


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    import logging
    import tempfile

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        table = choices_of_the_step() + around_the_step(Path(folder))
    with (HERE / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    print(f"{report.processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {report.commit()}")
    csv.DictWriter(sys.stdout, list(table[0]), delimiter="\t").writerows(table)
