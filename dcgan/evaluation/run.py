"""Evaluate a target: compute its metrics and write the table, the evaluation file and the images."""

import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import UInt8
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dcgan.common.arg_checks import check_int
from dcgan.common.atomic_files import nonfinite_to_none, write_json
from dcgan.common.device import resolve_device
from dcgan.common.errors import UserError
from dcgan.common.image_grid import save_png
from dcgan.common.instantiate import build, build_all, build_function
from dcgan.common.progress import progress_bar
from dcgan.evaluation.plots import evaluation_figure, feature_figure, pairs_figure
from dcgan.evaluation.probes import Probe
from dcgan.evaluation.targets import EvaluationTarget, checkpoint_target, samples_target
from dcgan.metrics.base import Metric, MetricSpec, value_name
from dcgan.metrics.classes import class_histogram
from dcgan.metrics.compute import applicable_metrics, describe, load_real_statistics, measure, measure_baseline
from dcgan.metrics.features import ImageFeatures
from dcgan.metrics.judge import MissingJudgeError, training_command
from dcgan.metrics.memorization import Memorization, closest_pairs
from dcgan.metrics.real_images import RealStatistics

N_PAIRS = 32
TABLE_WIDTH = 100  # if the output is not a terminal


class Measurement(NamedTuple):
    """The value of a metric, its value on real images, and its description."""

    value: float
    baseline: float
    spec: MetricSpec


def evaluate(cfg: DictConfig, run_dir: Path, overrides: list[str], data_choice: str) -> None:
    """Compute all metrics, print the table, and write the evaluation file, the images and TensorBoard events.

    Args:
        cfg: conf/evaluate.yaml with the overrides.
        run_dir: The folder of the output files for samples=.
        overrides: The command line's overrides.
        data_choice: The command line's option of the config group `data`.
    """
    start = time.perf_counter()
    check_config(cfg)
    if cfg.checkpoint is not None:
        target = checkpoint_target(cfg, overrides)
    else:
        target = samples_target(cfg, run_dir, data_choice)
    features = {name: build_function(cfg, f"features.{name}") for name in cfg.features}
    try:
        real = load_real_statistics(target.data, features, resolve_device(cfg.device))
    except MissingJudgeError as error:
        raise UserError(f"{error}: train one with {training_command(target.data_choice)}") from error
    samples, measurements = measure_target(cfg, target, real)

    print_table(measurements, real, len(samples))
    values = {name: measurement.value for name, measurement in measurements.items()}
    content = {
        "metrics": nonfinite_to_none(values),
        "floor": nonfinite_to_none({name: measurement.baseline for name, measurement in measurements.items()}),
        "better": {name: measurement.spec.better for name, measurement in measurements.items()},
        "n": len(samples),
        "features": real.feature_facts,
        "judge": real.judge_facts,
        "class_histogram": class_histogram(samples.logits).tolist() if real.judge else None,
        **target.facts,
        "seconds": time.perf_counter() - start,
    }
    write_json(target.output_path("evaluation.json"), content)
    images = {"evaluation": evaluation_figure(samples, real)}
    images |= {value_name("features", space): feature_figure(samples, real, space) for space in real.spaces}
    if set(Memorization.specs) <= set(values):  # the pairs are known; else it would take minutes to find them
        images["closest_pairs"] = pairs_figure(*closest_pairs(samples, real, N_PAIRS))
    write_outputs(target, images, values)
    print(f"evaluation   {target.output_path('evaluation.json')}")
    print(f"pictures     {', '.join(str(target.output_path(f'{name}.png')) for name in images)}")


def check_config(cfg: DictConfig) -> None:
    """Check the keys that no constructor checks."""
    check_int("batch_size", cfg.batch_size, 1)
    check_int("seed", cfg.seed, 0)
    check_int("n", cfg.n, 1, optional=True)
    if (cfg.checkpoint is None) == (cfg.samples is None):
        raise UserError("give either checkpoint=RUN/checkpoints/last.ckpt or samples=FILE.npy")
    if cfg.probe and cfg.samples is not None:
        raise UserError("probe= needs networks: give checkpoint= instead of samples=")


def choose_n(n: int | None, available: int | None, default: int) -> int:
    """Return the number of images to measure, and report it if it is not `default`."""
    chosen = min(limit for limit in (n, available, default) if limit is not None)
    if available is not None and chosen < available:
        print(f"note: the first {chosen:,} of {available:,} images are measured", file=sys.stderr)
    if chosen < default:
        print(
            f"WARNING: {chosen:,} images instead of {default:,}: distances are higher and coverage is lower. Compare "
            f"only with the real-data baseline, which is that of {chosen:,} real images",
            file=sys.stderr,
        )
    return chosen


def measure_target(
    cfg: DictConfig, target: EvaluationTarget, real: RealStatistics
) -> tuple[ImageFeatures, dict[str, Measurement]]:
    """Return the target's images with their features, and their measurements by name."""
    n = choose_n(cfg.n, target.available, len(real))
    labels = target.labels(n)
    metrics = applicable_metrics(build_all(cfg, "evaluator", Metric), real.judge is not None, labels is not None)
    specs = describe(metrics, real.spaces)
    probe = build(cfg, "probe", Probe) if cfg.probe is not None else None
    if probe is not None and target.networks is not None:
        probe.check(target.networks[0])

    with progress_bar() as progress:
        n_batches, description = math.ceil(n / cfg.batch_size), f"generating {n:,} images"
        batches = list(progress.track(target.generate(n), n_batches, description=description))
        task = progress.add_task("extracting features", total=2 * len(metrics))
        samples = real.extract_features(torch.cat(batches), labels)

        def report_progress(description: str) -> None:
            progress.update(task, advance=1, description=f"measuring {description}")

        config = cast(Any, OmegaConf.to_container(cfg.evaluator))
        baseline = measure_baseline(metrics, config, n, real, report_progress)
        values = measure(metrics, samples, real, report_progress)
        if probe is not None and target.networks is not None:
            report_progress("the probe")
            probe_values, probe_baseline = probe(*target.networks, real, cfg.seed, report_progress)
            values, baseline, specs = values | probe_values, baseline | probe_baseline, specs | probe.specs
    return samples, {name: Measurement(value, baseline[name], specs[name]) for name, value in values.items()}


def print_table(measurements: dict[str, Measurement], real: RealStatistics, n: int) -> None:
    features = "; ".join(f"{name}: {facts['description']}" for name, facts in real.feature_facts.items())
    table = Table(
        "metric",
        "",
        Column("generated", justify="right"),
        Column("real-data baseline", justify="right"),
        "better",
        title=f"{n:,} images of {real.data.dataset_name}; features: {features}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name, (value, baseline, spec) in measurements.items():
        better = spec.better.replace("floor", "baseline")
        table.add_row(name, spec.label, f"{value:.4g}", f"{baseline:.4g}", better)
    Console(width=None if sys.stdout.isatty() else TABLE_WIDTH).print(table)


def write_outputs(
    target: EvaluationTarget, images: dict[str, UInt8[Tensor, "3 h w"]], values: dict[str, float]
) -> None:
    """Write the images as files, and images and values to TensorBoard."""
    with SummaryWriter(target.run_dir) as writer:
        for name, image in images.items():
            save_png(target.output_path(f"{name}.png"), image)
            writer.add_image("evaluation" if name == "evaluation" else f"evaluation/{name}", image, target.step)
        for name, value in values.items():
            writer.add_scalar(f"evaluation/{name}", value, target.step)
