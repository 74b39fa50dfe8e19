"""Evaluate a target: compute its metrics and write the table, the evaluation file and the images."""

import sys
import time
from pathlib import Path
from typing import Any, cast

import torch
from hydra.utils import instantiate
from jaxtyping import UInt8
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dcgan.common.arg_checks import check_int
from dcgan.common.atomic_files import nonfinite_to_none, write_json
from dcgan.common.device import resolve_device
from dcgan.common.errors import UserError
from dcgan.common.image_grid import save_png
from dcgan.common.progress import progress_bar
from dcgan.evaluation.plots import evaluation_figure, pairs_figure
from dcgan.evaluation.probes import Probe
from dcgan.evaluation.targets import EvaluationTarget, checkpoint_target, samples_target
from dcgan.metrics.base import MetricSpec
from dcgan.metrics.classes import class_histogram
from dcgan.metrics.compute import applicable_metrics, load_real_statistics, measure, measure_baseline
from dcgan.metrics.judge import MissingJudgeError
from dcgan.metrics.memorization import Memorization, closest_pairs
from dcgan.metrics.real_images import RealStatistics

N_PAIRS = 32
TABLE_WIDTH = 100  # if the output is not a terminal


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


def check_config(cfg: DictConfig) -> None:
    """Check the keys that no constructor checks."""
    check_int("batch_size", cfg.batch_size, 1)
    check_int("seed", cfg.seed, 0)
    check_int("n", cfg.n, 1, optional=True)
    if (cfg.checkpoint is None) == (cfg.samples is None):
        raise UserError("give either checkpoint=RUN/checkpoints/last.ckpt or samples=FILE.npy")
    if cfg.probe and cfg.samples is not None:
        raise UserError("probe= needs networks: give checkpoint= instead of samples=")


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
    try:
        real = load_real_statistics(target.data, resolve_device(cfg.device))
    except MissingJudgeError as error:
        raise UserError(
            f"{error}: train one with python -m dcgan.metrics.train_judge data={target.data_choice}"
        ) from error
    n = choose_n(cfg.n, target.available, len(real))
    labels = target.labels(n)
    metrics = applicable_metrics(
        instantiate(cfg.evaluator, _convert_="all"), has_judge=True, has_labels=labels is not None
    )
    probe: Probe | None = instantiate(cfg.probe)
    if probe is not None and target.check_probe is not None:
        target.check_probe(probe)

    with progress_bar() as progress:
        task = progress.add_task(f"generating {n:,} images", total=n)
        batches = []
        for batch in target.generate(n):
            batches.append(batch)
            progress.update(task, advance=len(batch))
        task = progress.add_task("extracting features", total=2 * len(metrics))
        samples = real.extract_features(torch.cat(batches), labels)

        def report_progress(description: str) -> None:
            progress.update(task, advance=1, description=f"measuring {description}")

        config = cast(Any, OmegaConf.to_container(cfg.evaluator))
        baseline = measure_baseline(metrics, config, n, real, report_progress)
        values = measure(metrics, samples, real, report_progress)
        specs = {name: spec for metric in metrics.values() for name, spec in metric.specs.items()}
        if probe is not None and target.run_probe is not None:
            report_progress("the probe")
            probe_values, probe_baseline = target.run_probe(probe, real)
            values, baseline, specs = values | probe_values, baseline | probe_baseline, specs | probe.specs

    print_table(values, baseline, specs, real, n)
    write_json(
        target.output_path("evaluation.json"),
        {
            "metrics": nonfinite_to_none(values),
            "floor": nonfinite_to_none({name: baseline[name] for name in values}),
            "better": {name: specs[name].better for name in values},
            "n": n,
            "judge": real.judge_facts,
            "class_histogram": class_histogram(samples.logits).tolist(),
            "checkpoint": None,
            "samples": None,
            target.kind: target.facts,
            "seconds": time.perf_counter() - start,
        },
    )
    images = {"evaluation": evaluation_figure(samples, real)}
    if set(Memorization.specs) <= set(values):  # else it would take minutes to find them
        images["closest_pairs"] = pairs_figure(*closest_pairs(samples, real, N_PAIRS))
    write_outputs(target, images, values)
    print(f"evaluation   {target.output_path('evaluation.json')}")
    print(f"pictures     {', '.join(str(target.output_path(f'{name}.png')) for name in images)}")


def print_table(
    values: dict[str, float], baseline: dict[str, float], specs: dict[str, MetricSpec], real: RealStatistics, n: int
) -> None:
    judge = real.judge_facts or {}
    table = Table(
        title=f"{n:,} images of {real.data.dataset_name}; "
        f"judge of {judge['data']}, version {judge['version']}, test accuracy {judge['accuracy']:.2%}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in ("metric", ""):
        table.add_column(column)
    for column in ("generated", "real-data baseline"):
        table.add_column(column, justify="right")
    table.add_column("better")
    for name, value in values.items():
        better = specs[name].better.replace("floor", "baseline")
        table.add_row(name, specs[name].label, f"{value:.4g}", f"{baseline[name]:.4g}", better)
    console = Console()
    (console if console.is_terminal else Console(width=TABLE_WIDTH)).print(table)


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
