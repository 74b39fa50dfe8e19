"""Objects from a config that comes with a checkpoint: whoever wrote that file must not choose what code runs here."""

import re
from importlib import import_module
from typing import Any

from hydra.utils import instantiate

from dcgan.checks import UserError, first_line

CLASS = re.compile(r"(dcgan(?:\.\w+)+|torch\.nn|lightning|lightning\.pytorch\.profilers)\.([A-Z]\w*)")
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


def refuse_foreign(tree: Any) -> None:
    """Raise UserError where anything in plain containers would be built from code that is not known to be harmless, or
    where a string would only become something when it is read: instantiate would resolve it behind our back."""
    if isinstance(tree, str) and "${" in tree:
        raise UserError(f"the config holds {tree!r}: a checkpoint must not choose what code runs")
    if isinstance(tree, dict):
        if "_target_" in tree and not is_trusted(tree):
            raise UserError(
                f"the config names {tree['_target_']}, which is no class of dcgan, torch.nn or lightning: a checkpoint "
                "must not choose what code runs; put your class into a module of dcgan"
            )
        for name, branch in tree.items():
            refuse_foreign(name)
            refuse_foreign(branch)
    elif isinstance(tree, list):
        for branch in tree:
            refuse_foreign(branch)


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
