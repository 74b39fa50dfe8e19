"""What the commands share: where the configs are, and how a mistake of the user's ends."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.errors import CompactHydraException, InstantiationException
from omegaconf import DictConfig

from dcgan.checks import UserError
from dcgan.cpu import ask_mkl_for_other_kernels
from dcgan.output import lenient_output

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

PACKAGE = Path(__file__).parent
PATHS = ("ckpt_path", "checkpoint", "samples", "out", "folder", "z", "data.root", "hydra.run.dir")
# in a wheel the configs lie inside the package, in a checkout beside it
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())


def explain(error: BaseException) -> str | None:
    """One sentence for what a user can mend; None for what only a developer can."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        # a constructor that is called with a wrong key or type says so in a TypeError
        cause = error.__cause__
        sentence = str(cause).strip() if isinstance(cause, TypeError) else explain(cause)
        where = str(error).rpartition("full_key: ")[2] if "full_key: " in str(error) else ""
        return f"{sentence} (config key {where})" if sentence and where else sentence
    if isinstance(error, UserError | ValueError | CompactHydraException):
        return str(error).strip()
    if isinstance(error, OSError):
        return f"{os.fsdecode(error.filename or 'a file')} cannot be read or written: {error.strerror or error}"
    if type(error).__name__ == "OutOfMemoryError":  # torch's
        return f"the GPU has too little memory ({str(error).strip().splitlines()[0]}): lower data.batch_size"
    if type(error).__name__ == "MisconfigurationException":  # Lightning's; not worth ten seconds of import
        hint = ". trainer=cpu runs on every machine" if "backend" in str(error) else ""
        return f"the trainer cannot be set up: {str(error).strip().rstrip('.')}{hint}"
    return None


def fail(error: Exception) -> None:
    """End the process: one sentence on stderr and exit code 1 (or the error's own), or the traceback of what is not
    the user's to mend."""
    sentence = explain(error)
    if sentence is None:
        raise error
    if getattr(error, "silent", False):
        sys.exit(0)  # the first process tells; Lightning would kill it for another exit code of one that it has started
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(getattr(error, "exit_code", 1))


def run(command: Callable[[], object]) -> None:
    """Run a Hydra command; errors end it as `fail` says."""
    ask_mkl_for_other_kernels()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand errors over instead of printing a cut traceback
    with lenient_output():
        try:
            command()
        except Exception as error:
            fail(error)
        except KeyboardInterrupt:  # a training that has begun saves first: dcgan.interruption
            print("error: interrupted", file=sys.stderr)
            sys.exit(130)


def main(
    config_name: str,
    act: Callable[[DictConfig], None],
    prepare: Callable[[list[str]], list[str]] = lambda arguments: arguments,
) -> None:
    """The whole of a command that is done in one go: `act` on conf/<config_name>.yaml with the command line's
    overrides, which `prepare` may change before."""

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
    def task(cfg: DictConfig) -> None:
        try:
            act(cfg)
        except Exception as error:
            fail(error)

    def command() -> None:
        sys.argv[1:] = [quoted(argument) for argument in prepare(sys.argv[1:])]
        task()

    run(command)


def once(arguments: list[str]) -> list[str]:
    """For commands that write where they are told to: a sweep's jobs would write over each other."""
    if {"-m", "--multirun"} & set(arguments):
        raise UserError("this command runs once: leave -m out")
    return arguments


def quoted(argument: str) -> str:
    """The override with its path in quotes: the folders of a sweep have "=" in their names, a path may look like a
    number, and Hydra's grammar knows few letters."""
    key, _, value = argument.partition("=")
    if key in PATHS and value not in ("", "null") and value[0] not in "'\"":
        escaped = value.replace("'", "\\'")
        return f"{key}='{escaped}'"
    return argument


def device(name: str) -> "torch.device":
    """auto: a GPU where there is one. ValueError for a name that torch does not know or this machine does not have."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but there is no GPU here: device=cpu runs on every machine")
    return torch.device(name)


def bar() -> "Progress":
    """A progress bar on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
