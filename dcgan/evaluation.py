"""From what is to be evaluated to its table, its evaluation file and its pictures."""

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

from dcgan import cli, subjects
from dcgan.checks import UserError, check_int
from dcgan.files import plain, write_json
from dcgan.grids import save_png
from dcgan.measuring import measure, measure_floor, reference, that_apply
from dcgan.metrics.classes import class_histogram
from dcgan.metrics.judge import MissingJudgeError
from dcgan.metrics.memorization import Memorization, closest_pairs
from dcgan.metrics.metric import Figure
from dcgan.metrics.probe import Probe
from dcgan.metrics.reference import Reference
from dcgan.pictures import evaluation_picture, pairs_picture
from dcgan.subjects import Subject

PAIRS = 32
TABLE_WIDTH = 100  # where the output is no terminal


def how_many(n: int | None, available: int | None, full: int) -> int:
    """The number of images to measure; what is not the full one is said."""
    chosen = min(wanted for wanted in (n, available, full) if wanted is not None)
    if available is not None and chosen < available:
        print(f"note: the first {chosen:,} of {available:,} images are measured", file=sys.stderr)
    if chosen < full:
        print(
            f"WARNING: {chosen:,} images instead of {full:,}: distances come out larger and coverage smaller. Compare "
            f"them with the floor, which is that of {chosen:,} real images, and with nothing else",
            file=sys.stderr,
        )
    return chosen


def check(cfg: DictConfig) -> None:
    """Raise for the keys that no constructor of ours checks."""
    check_int("batch_size", cfg.batch_size, 1)
    check_int("seed", cfg.seed, 0)
    check_int("n", cfg.n, 1, optional=True)
    if (cfg.checkpoint is None) == (cfg.samples is None):
        raise UserError("give either checkpoint=RUN/checkpoints/last.ckpt or samples=FILE.npy")
    if cfg.probe and cfg.samples is not None:
        raise UserError("a probe looks at networks: give checkpoint= instead of samples=")


def evaluate(cfg: DictConfig, run_dir: Path, overrides: list[str], choice: str) -> None:
    """Measure, print the table, write the evaluation file and the pictures, and show them in TensorBoard.

    cfg: conf/evaluate.yaml with the `overrides`; run_dir: for the files of samples=; choice: of the data group.
    """
    start = time.perf_counter()
    check(cfg)
    if cfg.checkpoint is not None:
        subject = subjects.of_checkpoint(cfg, overrides)
    else:
        subject = subjects.of_samples(cfg, run_dir, choice)
    try:
        real = reference(subject.data, cli.device(cfg.device))
    except MissingJudgeError as error:
        raise UserError(f"{error}: python -m dcgan.metrics.classifier data={subject.choice} trains one") from error
    n = how_many(cfg.n, subject.available, len(real))
    labels = subject.labels(n)
    metrics = that_apply(instantiate(cfg.evaluator, _convert_="all"), judged=True, labelled=labels is not None)
    probe: Probe | None = instantiate(cfg.probe)
    if probe is not None and subject.check_probe is not None:
        subject.check_probe(probe)

    with cli.bar() as progress:
        task = progress.add_task(f"drawing {n:,} images", total=n)
        parts = []
        for part in subject.draw(n):
            parts.append(part)
            progress.update(task, advance=len(part))
        task = progress.add_task("judging them", total=2 * len(metrics))
        samples = real.look(torch.cat(parts), labels)

        def tell(what: str) -> None:
            progress.update(task, advance=1, description=f"measuring {what}")

        floor = measure_floor(metrics, cast(Any, OmegaConf.to_container(cfg.evaluator)), n, real, tell)
        figures = measure(metrics, samples, real, tell)
        if probe is not None and subject.probe is not None:
            tell("what a classifier makes of it")
            probed, probed_floor = subject.probe(probe, real)
            figures, floor = figures | probed, floor | probed_floor

    known = {name: figure for metric in metrics.values() for name, figure in metric.figures.items()}
    known |= probe.figures if probe is not None else {}
    print_table(figures, floor, known, real, n)
    write_json(
        subject.output("evaluation.json"),
        {
            "metrics": plain(figures),
            "floor": plain({name: floor[name] for name in figures}),
            "better": {name: known[name].better for name in figures},
            "n": n,
            "judge": real.judge_facts,
            "class_histogram": class_histogram(samples.logits).tolist(),
            "checkpoint": None,
            "samples": None,
            subject.kind: subject.facts,
            "seconds": time.perf_counter() - start,
        },
    )
    pictures = {"evaluation": evaluation_picture(samples, real)}
    if set(Memorization.figures) <= set(figures):  # what takes the time of finding them
        pictures["closest_pairs"] = pairs_picture(*closest_pairs(samples, real, PAIRS))
    show(subject, pictures, figures)
    print(f"evaluation   {subject.output('evaluation.json')}")
    print(f"pictures     {', '.join(str(subject.output(f'{name}.png')) for name in pictures)}")


def print_table(
    figures: dict[str, float], floor: dict[str, float], known: dict[str, Figure], real: Reference, n: int
) -> None:
    judge = real.judge_facts or {}
    table = Table(
        title=f"{n:,} images of {real.data.dataset_name}; "
        f"judge of {judge['data']}, version {judge['version']}, {judge['accuracy']:.2%} right",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in ("figure", "", "generated", "real (floor)", "better"):
        table.add_column(column, justify="right" if column in ("generated", "real (floor)") else "left")
    for name, value in figures.items():
        table.add_row(name, known[name].label, f"{value:.4g}", f"{floor[name]:.4g}", known[name].better)
    console = Console()
    (console if console.is_terminal else Console(width=TABLE_WIDTH)).print(table)


def show(subject: Subject, pictures: dict[str, UInt8[Tensor, "3 h w"]], figures: dict[str, float]) -> None:
    """The pictures, as files and in TensorBoard."""
    with SummaryWriter(subject.run_dir) as writer:
        for name, picture in pictures.items():
            save_png(subject.output(f"{name}.png"), picture)
            writer.add_image("evaluation" if name == "evaluation" else f"evaluation/{name}", picture, subject.step)
        for name, value in figures.items():
            writer.add_scalar(f"evaluation/{name}", value, subject.step)
