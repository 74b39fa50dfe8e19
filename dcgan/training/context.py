"""The context that the callbacks of a run share: the facts of the run, and each other."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import lightning as L
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from dcgan.common.errors import UserError
from dcgan.runs.config_diff import COMMAND_LINE_KEYS
from dcgan.training.signals import SignalHandler

C = TypeVar("C", bound=L.Callback)


@dataclass(eq=False)
class RunContext(L.Callback):
    """The facts of a run. A callback gets them with `run_context(trainer)`.

    Attributes:
        run_dir: The folder that the run writes to.
        cfg: The config of the run.
        config: What checkpoints hold of it, resolved, as plain containers. Set when the fit starts.
        choices: The chosen option of each config group.
        signals: The signals that the process has received.
        console: For reports to the user.
        init_from: The checkpoint whose weights the run started from, and its step; None: random weights.
        show_activity: Shows what the run does instead of training; "": it trains. Set by the progress bar.
    """

    run_dir: Path
    cfg: DictConfig
    choices: dict[str, str]
    signals: SignalHandler
    console: Console
    init_from: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    show_activity: Callable[[str], None] = lambda activity: None

    @contextmanager
    def activity(self, text: str) -> Iterator[None]:
        """Within the context, the progress bar shows this text instead of the losses."""
        self.show_activity(text)
        yield
        self.show_activity("")

    def on_fit_start(self, trainer: L.Trainer, gan: L.LightningModule) -> None:
        """Resolve the config, after the schedulers have got their length."""
        resolved = cast(dict, OmegaConf.to_container(self.cfg, resolve=True))
        self.config |= {key: value for key, value in resolved.items() if key not in COMMAND_LINE_KEYS}
        self.config["trainer"] = resolved["trainer"]


def run_context(trainer: L.Trainer) -> RunContext:
    return find_callback(trainer, RunContext)


def find_callback(trainer: L.Trainer, kind: type[C]) -> C:
    """Return the trainer's callback of this class. Raise UserError if it was removed from the config."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, kind):
            return callback
    raise UserError(
        f"a run needs the callback {kind.__module__}.{kind.__qualname__}, which this config lacks: do not remove it"
    )
