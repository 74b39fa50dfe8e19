"""Objects from a config that comes with a checkpoint: whoever wrote that file must not choose what code runs here."""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from hydra.utils import instantiate

from dcgan.checks import UserError, first_line

CLASS = re.compile(r"(dcgan(?:\.\w+)+|torch\.nn|lightning|lightning\.pytorch\.profilers)\.([A-Z]\w*)")
LARGEST = 10_000  # a whole config has some 300 entries
DATA_SET = re.compile(r"torchvision\.datasets\.[A-Z]\w*")


def is_trusted(node: dict[str, Any]) -> bool:
    """Whether the `_target_` is a class that dcgan, torch.nn or lightning define, under the name it has there, and not
    one that a module of theirs happens to import; or the name of a data set of torchvision's."""
    target = str(node["_target_"])
    if target == "hydra.utils.get_class":
        return DATA_SET.fullmatch(str(node.get("path"))) is not None
    found = CLASS.fullmatch(target)
    if found is None:
        return False
    module, name = found.groups()
    try:
        defined = getattr(import_module(module), name, None)
    except ImportError:
        return False
    return isinstance(defined, type) and defined.__module__.partition(".")[0] == module.partition(".")[0]


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


def refuse_foreign(tree: Any) -> None:
    """Raise UserError where anything in plain containers would be built from code that is not known to be harmless."""
    for node in nodes(tree):
        if isinstance(node, dict) and "_target_" in node and not is_trusted(node):
            raise UserError(
                f"the config names {node['_target_']}, which is no class of dcgan, torch.nn or lightning: a checkpoint "
                "must not choose what code runs; put your class into a module of dcgan"
            )


def rebuild(config: dict[str, Any], key: str) -> Any:
    """The object that a checkpoint's config describes at `key`, "a.b" for b in a.

    UserError where that is foreign (see `refuse_foreign`) or cannot be built by this version.
    """
    try:
        tree: Any = config
        for name in key.split("."):
            tree = tree[name]
        refuse_foreign(tree)
        return instantiate(tree)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the checkpoint's {key} cannot be built by this version ({first_line(error)})") from error
