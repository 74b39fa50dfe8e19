"""Build objects from the config in a checkpoint without letting the file choose which code runs.

Only the parts that define the maths come from a file, each from a closed list of packages, to which a user can add own
packages: `trust`. Whatever opens files, starts processes or uses the network (trainers, loggers, callbacks, Inception's
weights) comes from the command line only.
"""

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, TypeVar

from hydra.utils import instantiate
from omegaconf import DictConfig

from dcgan.common.config_tree import is_within
from dcgan.common.errors import UserError, first_line
from dcgan.common.instantiate import require_instance
from dcgan.common.overrides import override_key

T = TypeVar("T")

DATA_SETS = "torchvision.datasets"  # named by `hydra.utils.get_class`, never called from a config
MODEL_PARTS = ("dcgan.models", "torch.nn")
# the packages whose classes each key of a config may name
PACKAGES = {
    **dict.fromkeys(("model", "activation", "normalization", "prior", "initialization"), MODEL_PARTS),
    **dict.fromkeys(("discriminator", "discriminator_activation", "discriminator_normalization"), MODEL_PARTS),
    "output": ("torch.nn", "dcgan.data.pixel_range"),
    "loss": ("dcgan.losses",),
    "penalty": ("dcgan.losses",),
    "augmentation": ("dcgan.models.augmentation",),
    "optimizer": ("torch.optim",),
    "scheduler": ("torch.optim",),
    "data": ("dcgan.data", DATA_SETS),
    "evaluator": tuple(
        f"dcgan.metrics.{module}"
        for module in ("distances", "prdc", "classes", "checkerboard", "memorization", "sliced_wasserstein")
    ),
    # not dcgan.metrics.pretrained, which unpickles files
    "features": tuple(f"dcgan.metrics.{module}" for module in ("auto_features", "judge", "random_conv")),
}
LOCAL_DATA_KEYS = ("root", "cache_dir")  # of a data module: decided by the command line, never by a file
MAX_NODES = 10_000  # a complete config has some 300
TRUSTED = "DCGAN_TRUSTED"  # environment variable: the user's packages, separated by commas


def trust(packages: Iterable[str]) -> None:
    """Let the checkpoints that this process reads name anything in these packages, in addition to $DCGAN_TRUSTED.

    Raises:
        ValueError: A name is not that of a package.
    """
    names = [packages] if isinstance(packages, str) else list(packages)
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"trusted must be a list of package names such as [my_lab], got {name!r}")
    os.environ[TRUSTED] = ",".join(
        dict.fromkeys([*trusted_packages(), *names])
    )  # processes that this one starts trust them, too


def trusted_packages() -> list[str]:
    return [name.strip() for name in os.environ.get(TRUSTED, "").split(",") if name.strip()]


def safe_instantiate(config: dict[str, Any], key: str, kind: type[T]) -> T:
    """Return the object that a checkpoint's config describes at `key` ("a.b" for b in a).

    Raises:
        UserError: The config names a class that is not on the list of its key, this version cannot build it, or it is
            not an instance of `kind`.
    """
    part, *names = key.split(".")
    reject_untrusted(config, [part])
    try:
        tree: Any = config[part]
        for name in names:
            tree = tree[name]
        return require_instance(f"the checkpoint's {key}", instantiate(tree), kind)
    except UserError:
        raise
    except Exception as error:
        cause = error.__cause__ or error  # Hydra's message has several lines, and the reason may be in none of them
        reason = f"{type(cause).__name__}: {first_line(cause)}"
        raise UserError(f"the checkpoint's {key} cannot be built by this version ({reason})") from error


def reject_untrusted(config: dict[str, Any], keys: Iterable[str]) -> None:
    """Raise UserError if one of these parts of the config names a class that is not on the list of its key.

    Keys that the config does not have are skipped.
    """
    for key in keys:
        packages = PACKAGES.get(key, ())
        for node in walk(config.get(key)):
            if isinstance(node, dict) and "_target_" in node and not is_trusted(node, packages):
                path = str(class_path(node) or node["_target_"])
                package = path.partition(".")[0]
                advice = f"If you trust that package, add trusted=[{package}] or set {TRUSTED}={package}"
                if key in ("evaluator", "features"):  # the command line may replace them
                    advice = f"Give {key}= on the command line"
                raise UserError(
                    f"the checkpoint's {key} names {path}, which is not a class of {' or '.join(packages) or 'dcgan'}: "
                    f"a checkpoint must not choose which code runs. {advice}"
                )


def is_trusted(node: dict[str, Any], packages: tuple[str, ...]) -> bool:
    """Return True if the node's `_target_` is a class that one of the packages defines, in the module it names; if the
    node is the name of a torchvision data set and these are allowed; or if it names anything in a trusted package."""
    path = class_path(node)
    module, _, name = str(node["_target_"] if path is None else path).rpartition(".")
    if any(f"{module}.".startswith(f"{package}.") for package in trusted_packages()):
        return True
    if path is not None:
        return DATA_SETS in packages and module == DATA_SETS and name.isidentifier()
    own = [package for package in packages if package != DATA_SETS and f"{module}.".startswith(f"{package}.")]
    if not own:
        return False
    try:
        defined = getattr(import_module(module), name, None)
    except ImportError:
        return False
    # not what the module has imported; torch.nn exports classes of its submodules
    return isinstance(defined, type) and f"{defined.__module__}.".startswith(f"{module}.")


def class_path(node: dict[str, Any]) -> str | None:
    """Return the path of a node that stands for a class itself, None for other nodes."""
    return str(node.get("path")) if node["_target_"] == "hydra.utils.get_class" else None


def reject_non_plain(tree: Any) -> None:
    """Raise UserError unless the tree consists of the plain nested containers and values of a config."""
    for _ in walk(tree):
        pass


def walk(tree: Any) -> Iterator[Any]:
    """Yield every node of nested dicts and lists.

    Raises:
        UserError: A node is another object, or a string that `instantiate` would resolve, or there are more than
            `MAX_NODES` nodes: a list that contains itself is a few bytes in a file and has no end.
    """
    waiting, seen = [tree], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > MAX_NODES:
            raise UserError(f"the config has more than {MAX_NODES:,} entries: it is not a config of dcgan")
        if not isinstance(node, dict | list | str | int | float | None):
            raise UserError(f"the config holds a {type(node).__name__}, which is not a plain value")
        if isinstance(node, str) and "${" in node:
            raise UserError(f"the config holds {node!r}: a checkpoint must not choose which code runs")
        if isinstance(node, dict):
            waiting += [*node, *node.values()]
        elif isinstance(node, list):
            waiting += node
        yield node


def use_local_data_keys(data: dict[str, Any], cfg: DictConfig) -> dict[str, Any]:
    """Return a checkpoint's data config with the folders of this command's config."""
    local = {key: cfg.data[key] for key in LOCAL_DATA_KEYS if key in data and key in cfg.data}
    return {key: value for key, value in data.items() if key not in LOCAL_DATA_KEYS} | local


def reject_saved_keys(overrides: Iterable[str]) -> None:
    """Raise UserError if an override sets a key of the data or of the pixel range, which a checkpoint has."""
    for key in map(override_key, overrides):
        is_local = key.removeprefix("data.") in LOCAL_DATA_KEYS
        if key == "discriminator_steps" or is_within(key, ["output"]) or (key.startswith("data.") and not is_local):
            raise UserError(f"{key} is set by the checkpoint: omit it")
