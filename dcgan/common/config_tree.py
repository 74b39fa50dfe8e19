"""Walk configs as nested plain containers; describe a file of conf/."""

from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any


def top_comment(path: Path) -> str:
    """Return the comment at the top of a config file, which says what the option is; "" if there is none."""
    lines = (line for line in path.read_text().splitlines() if not line.startswith("# @package"))
    return "; ".join(line[2:] for line in takewhile(lambda line: line.startswith("# "), lines))


def flat_items(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the nodes of nested dicts, containers included, with their dotted keys."""
    for name, value in tree.items():
        yield f"{prefix}{name}", value
        if isinstance(value, dict):
            yield from flat_items(value, f"{prefix}{name}.")


def select(tree: Any, key: str) -> Any:
    """Return the node at a dotted key: None if there is no such key, "null" if the node is null."""
    for name in key.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return None
        tree = tree[name]
    return "null" if tree is None else tree


def is_within(key: str, keys: Iterable[str]) -> bool:
    """Return True if a dotted key is one of these keys, or below one of them."""
    return any(key == other or key.startswith(f"{other}.") for other in keys)


def leaves(node: Any) -> Iterator[Any]:
    """Yield the values in nested dicts and lists, without the containers."""
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from leaves(child)
    else:
        yield node
