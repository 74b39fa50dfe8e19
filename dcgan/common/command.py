"""Shared by all commands: find the config folder, run a command, report its errors."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig

from dcgan.common.errors import UserError, explain
from dcgan.common.output_streams import lenient_output
from dcgan.common.overrides import explain_unknown_key, explain_unknown_option, quote, reject_other_kinds

PACKAGE = Path(__file__).parents[1]
# in a wheel the configs are inside the package, in a checkout next to it
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())
CHECKPOINT_KEYS = ("ckpt_path", "checkpoint", "init_from")
PATH_KEYS = (*CHECKPOINT_KEYS, "samples", "out", "folder", "z", "image", "data.root", "data.cache_dir", "hydra.run.dir")
WHOLE_FLOAT = re.compile(r"\d+(\.\d*)?[eE]\+?\d{1,2}")  # such as 1e3
COUNT_KEYS = ("max_steps", "max_epochs", "n", "steps", "data.limit", "metrics.n")


def run(command: Callable[[], object], config_name: str) -> None:
    """Run a Hydra command on conf/<config_name>.yaml and report its errors as `fail` does."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors instead of printing a shortened traceback
    if folder := os.environ.pop("DCGAN_DATA_DIR", ""):  # an empty one counts as none
        os.environ["DCGAN_DATA_DIR"] = str(Path(folder).expanduser())  # which conf/ reads
    with lenient_output():
        try:
            command()
        except ConfigCompositionException as error:
            if isinstance(error, MissingConfigException):
                sentence = explain_unknown_option(error)
            else:
                sentence = explain_unknown_key(error, str(CONF), config_name, sys.argv[1:])
            fail(error if sentence is None else UserError(sentence))
        except Exception as error:
            fail(error)
        except KeyboardInterrupt:  # a training that has started saves first: dcgan.training.signals
            print("error: interrupted", file=sys.stderr)
            sys.exit(130)


def prefer_own_configs() -> None:
    """Let files of conf/hydra replace the configs of installed plugins, which Hydra would merge by their names."""
    Plugins.instance()  # imports the plugins, which store their configs
    stored = ConfigStore.instance().repo["hydra"]
    for path in CONF.glob("hydra/*/*.yaml"):
        stored.get(path.parent.name, {}).pop(path.name, None)


def fail(error: Exception) -> None:
    """Print one sentence and exit with code 1 (or the error's own code); raise an error that the user cannot fix."""
    sentence = explain(error)
    if sentence is None:
        raise error
    if getattr(error, "silent", False):
        sys.exit(0)  # rank 0 reports the error; for any other exit code of a rank Lightning would kill rank 0
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(getattr(error, "exit_code", 1))


def main(
    config_name: str,
    act: Callable[[DictConfig], None],
    prepare: Callable[[list[str]], list[str]] = lambda arguments: arguments,
) -> None:
    """Run a command that does not train.

    Args:
        config_name: The file in conf/ that the command line overrides.
        act: Does the work on the composed config.
        prepare: Changes the command line's arguments before Hydra parses them.
    """

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
    def task(cfg: DictConfig) -> None:
        try:  # here, too, as Hydra would print a line of its own first
            reject_other_kinds(cfg, CONF / f"{config_name}.yaml")
            act(cfg)
        except Exception as error:
            fail(error)

    def command() -> None:
        sys.argv[1:] = [clean_override(argument) for argument in prepare(group_overrides(sys.argv[1:]))]
        task()

    run(command, config_name)


def group_overrides(arguments: list[str]) -> list[str]:
    """Return the command line with all overrides at its end: argparse accepts only one group of them."""
    overrides = get_args_parser().parse_known_intermixed_args(arguments)[0].overrides
    return [*(argument for argument in arguments if argument not in overrides), *overrides]


def reject_multirun(arguments: list[str]) -> list[str]:
    """Raise UserError for -m: the jobs of a sweep would overwrite each other's output."""
    if {"-m", "--multirun"} & set(arguments):
        raise UserError("this command runs once: leave -m out")
    return arguments


def clean_override(argument: str) -> str:
    """Return an override in the form that Hydra's grammar and the config expect.

    "~" is the home directory, a run's folder stands for its last checkpoint, and a count may be 1e3. Paths are quoted.
    """
    key, _, value = argument.partition("=")
    if key in COUNT_KEYS and WHOLE_FLOAT.fullmatch(value) and float(value).is_integer():
        return f"{key}={int(float(value))}"
    if key not in PATH_KEYS or value in ("", "null") or value[0] in "'\"":
        return argument
    path = str(Path(value).expanduser()) if re.match(r"~(/|$)", value) else value
    last = Path(path, "checkpoints", "last.ckpt")
    if key in CHECKPOINT_KEYS and last.is_file():
        path = str(last)
    return f"{key}={quote(path)}"
