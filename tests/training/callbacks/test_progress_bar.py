import io
from pathlib import Path
from types import SimpleNamespace

import torch
from omegaconf import OmegaConf
from rich.console import Console

from dcgan.training.callbacks import progress_bar
from dcgan.training.callbacks.metrics_logger import MetricsLogger
from dcgan.training.callbacks.progress_bar import ProgressBar, print_outcome, shorten_path
from dcgan.training.context import RunContext, run_context
from dcgan.training.signals import SignalHandler

LATEST = {"train/loss_d": 1.25, "train/loss_g": 0.5, "train/images_per_second": 1600.0}


def run(is_terminal: bool, latest: dict[str, float], monkeypatch) -> list[str]:
    """Return the lines printed by a training of 3 steps, which take 0 s."""
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=160)
    metrics_logger, bar, gan = MetricsLogger(1), ProgressBar(), SimpleNamespace(step=0, total_steps=3)
    metrics_logger.latest = latest
    callbacks = [RunContext(Path(), OmegaConf.create(), {}, SignalHandler(), console), metrics_logger]
    data = SimpleNamespace(images_per_step=8)
    trainer = SimpleNamespace(datamodule=data, world_size=2, is_global_zero=True, callbacks=callbacks)
    bar.setup(trainer, gan, "fit")
    bar.on_train_start(trainer, gan)
    for gan.step in (1, 2, 3):
        bar.on_train_batch_end(trainer, gan, None, torch.zeros(1), gan.step - 1)
    bar.on_train_end(trainer, gan)
    return console.file.getvalue().splitlines()


def test_lines_replace_the_bar_if_the_output_is_no_terminal(monkeypatch):
    line = "step 3/3  loss_d 1.250  loss_g 0.500  100.0 steps/s  1,600 images/s"
    assert run(False, LATEST, monkeypatch) == [line, ""]


def test_line_is_printed_at_the_interval_and_not_twice_at_the_end(monkeypatch):
    monkeypatch.setattr(progress_bar, "LINE_SECONDS", 0)
    assert [line.strip() for line in run(False, {}, monkeypatch)] == ["step 1/3", "step 2/3", "step 3/3", ""]


def test_bar_is_shown_in_a_terminal(monkeypatch):
    out = "".join(run(True, LATEST, monkeypatch))
    assert "step 3/3" in out
    assert "loss_d 1.250" in out


def test_bar_shows_that_the_run_measures(monkeypatch):
    def measure(bar, trainer, gan, *_):
        with run_context(trainer).activity("measuring 10,000 samples"):
            pass

    monkeypatch.setattr(ProgressBar, "on_train_batch_end", measure)
    shown = "".join(run(True, LATEST, monkeypatch))
    assert shown.count("measuring 10,000 samples") == 3
    assert shown.rindex("loss_d 1.250") > shown.rindex("measuring")
    assert "measuring" not in "".join(run(False, LATEST, monkeypatch))


def test_path_in_the_working_directory_is_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shorten_path(tmp_path / "runs" / "a") == "runs/a"
    assert shorten_path(tmp_path.parent / "a") == str(tmp_path.parent / "a")


def test_outcome_names_samples_and_the_tensorboard_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    console = Console(file=io.StringIO(), soft_wrap=True)
    (tmp_path / "run" / "samples").mkdir(parents=True)
    for step in (5, 7):
        (tmp_path / "run" / "samples" / f"step_{step:06d}.png").touch()
    metrics = {"frechet": 1.23456, "kid": 1.0, "coverage_random_conv": 0.5, "cb2": None, "loss_d": 1.0}
    summary = {"metrics": metrics, "wall_seconds": 60.4, "metrics_seconds": 5.0}
    print_outcome(console, tmp_path / "run", 7, summary)
    lines = console.file.getvalue().splitlines()
    assert lines[:4] == [
        "done after 7 steps",
        "result       frechet 1.235, coverage_random_conv 0.5",
        "time         60 s of training, 5 s of measurements",
        "samples      run/samples/step_000007.png",
    ]
    assert lines[-1].endswith("tensorboard --logdir run")
