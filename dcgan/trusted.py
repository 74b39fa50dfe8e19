"""Objects from a config that comes with a checkpoint: whoever wrote that file must not choose what code runs here.

From a file come only the parts that define the maths, each from a closed list of modules. What opens files, starts
processes or talks to a network (trainers, loggers, callbacks, Inception's weights) is the command line's alone.
"""

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from hydra.utils import instantiate

from dcgan.checks import UserError, first_line

NETWORKS = (
    "dcgan.networks",
    "dcgan.keras_mnist",
    "dcgan.upsampling",
    "dcgan.downsampling",
    "dcgan.normalization",
    "dcgan.prior",
    "torch.nn",
)
DATA_SETS = "torchvision.datasets"  # by name, for a data module of dcgan's
# each key of a config that may describe objects, and the modules that may define them
MODULES = {
    **dict.fromkeys(("model", "activation", "normalization", "prior"), NETWORKS),
    **dict.fromkeys(("discriminator", "discriminator_activation", "discriminator_normalization"), NETWORKS),
    "initialization": ("dcgan.networks",),
    "output": ("torch.nn", "dcgan.pixels"),
    "loss": ("dcgan.losses",),
    "penalty": ("dcgan.penalties",),
    "optimizer": ("dcgan.optimizers",),
    "data": ("dcgan.data", "dcgan.image_folder", "dcgan.stacked", "dcgan.pixels", DATA_SETS),
    "evaluator": (
        "dcgan.metrics.distances",
        "dcgan.metrics.coverage",
        "dcgan.metrics.classes",
        "dcgan.metrics.checkerboard",
        "dcgan.metrics.memorization",
    ),
}
MATHS = tuple(key for key in MODULES if key != "evaluator")  # what a checkpoint is read back with
LARGEST = 10_000  # a whole config has some 300 entries


def is_trusted(node: dict[str, Any], modules: tuple[str, ...]) -> bool:
    """Return True if the node's `_target_` is a class that one of the modules defines, under the name it has there, or
    the name of one of torchvision's data sets where these are among the modules."""
    target, named = node["_target_"], target_of_name(node) if DATA_SETS in modules else None
    if named is not None:
        return named.startswith(f"{DATA_SETS}.") and named.removeprefix(f"{DATA_SETS}.").isidentifier()
    module, _, name = str(target).rpartition(".")
    if module not in modules or module == DATA_SETS:
        return False
    defined = getattr(import_module(module), name, None)
    # torch.nn shows its classes under a shorter name than that of the module they are in
    return isinstance(defined, type) and f"{defined.__module__}.".startswith(f"{module}.")


def target_of_name(node: dict[str, Any]) -> str | None:
    """Return the path of a node that stands for a class by its name, as conf/data has them; None for other nodes."""
    return str(node.get("path")) if node["_target_"] == "hydra.utils.get_class" else None


def nodes(tree: Any) -> Iterator[Any]:
    """Everything in nested dicts and lists. UserError for what no config holds: other objects, strings that would only
    become something when they are read (instantiate would resolve them behind our back), or more than `LARGEST` nodes:
    a list that contains itself, or lists of the same lists of the same lists, are few bytes in a file and have no end.
    """
    waiting, seen = [tree], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > LARGEST:
            raise UserError(f"the config has more than {LARGEST:,} entries: it is none of this project's")
        if not isinstance(node, dict | list | str | int | float | None):
            raise UserError(f"the config holds a {type(node).__name__}, which is no plain value")
        if isinstance(node, str) and "${" in node:
            raise UserError(f"the config holds {node!r}: a checkpoint must not choose what code runs")
        if isinstance(node, dict):
            waiting += [*node, *node.values()]
        elif isinstance(node, list):
            waiting += node
        yield node


def refuse_unplain(tree: Any) -> None:
    """Raise UserError unless these are the plain nested containers of a config."""
    for _ in nodes(tree):
        pass


def refuse_foreign(config: dict[str, Any], keys: Iterable[str]) -> None:
    """Raise UserError where a part of the config would be built from a class that is not on the list of its key.

    keys: of the parts, those that the config has not are passed over.
    """
    for key in keys:
        modules = MODULES.get(key, ())
        for node in nodes(config.get(key)):
            if isinstance(node, dict) and "_target_" in node and not is_trusted(node, modules):
                raise UserError(
                    f"the config's {key} names {target_of_name(node) or node['_target_']}, which is no class of "
                    f"{', '.join(modules) or 'any module'}: a checkpoint must not choose what code runs; put your "
                    f"class there, or give {key}= on the command line"
                )


def rebuild(config: dict[str, Any], key: str) -> Any:
    """Return the object that a checkpoint's config describes at `key`, "a.b" for b in a.

    UserError where that is foreign (see `refuse_foreign`) or cannot be built by this version.
    """
    try:
        part, *names = key.split(".")
        refuse_foreign(config, [part])
        tree: Any = config[part]
        for name in names:
            tree = tree[name]
        return instantiate(tree)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the checkpoint's {key} cannot be built by this version ({first_line(error)})") from error
