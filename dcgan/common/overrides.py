"""Overrides on the command line: unknown keys, and keys that nothing reads."""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from dcgan.common.config_tree import flat_items, is_within, leaves, select
from dcgan.common.errors import UserError

UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'")
UNKNOWN_OPTION = re.compile(
    r"Could not find '(?P<group>[\w/]+)/(?P<option>[^'/]+)'\s+Available options in '(?P=group)':\n"
    r"(?P<options>(?:\t\S+\n?)+)"
)
KINDS = {bool: "true or false", str: "a text", list: "a list", dict: "a mapping of keys"}
KEY_IN_INTERPOLATION = re.compile(r"[A-Za-z_][\w.]*")


def override_key(override: str) -> str:
    """Return the key of an override such as "+a.b=1"."""
    return override.lstrip("+~").partition("=")[0]


def quote(text: str) -> str:
    """Return a text as a quoted value of Hydra's grammar, which rejects many characters, such as "="."""
    return "'" + text.replace("'", "\\'") + "'"


def unquote(value: str) -> str:
    """Return the text of a value that may be quoted."""
    return value.strip("'\"").replace("\\'", "'")


def explain_unknown_key(
    error: ConfigCompositionException, config_dir: str, config_name: str, arguments: list[str]
) -> str | None:
    """Return a sentence with a suggestion for Hydra's error about an unknown key, None for its other errors.

    Args:
        error: Hydra's error.
        config_dir: The folder of the configs.
        config_name: The config that the command line overrides.
        arguments: The command line. Its options of config groups decide which keys there are.
    """
    found = UNKNOWN_KEY.search(str(error))
    if found is None:
        return None
    chosen = [a for a in arguments if re.match(r"[a-z_]+=[\w]+$", a) and override_key(a) != override_key(found[1])]
    with initialize_config_dir(config_dir, version_base="1.3"):
        try:
            cfg = compose(config_name, chosen, return_hydra_config=True)
        except HydraException:  # one of these is wrong, too
            cfg = compose(config_name, return_hydra_config=True)
    groups = [group for group in cfg.hydra.runtime.choices if "/" not in group]
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    keys = [key for key, _ in flat_items(tree) if not key.startswith("hydra.")]
    return unknown_key(found[1], [*keys, *groups])


def explain_unknown_option(error: MissingConfigException) -> str | None:
    """Return a sentence with a suggestion for Hydra's error about an unknown option, None for its other errors."""
    found = UNKNOWN_OPTION.search(str(error))
    if found is None:
        return None
    if found["group"].startswith("hydra/") and found["option"] in extras():  # a plugin of Hydra
        return f"{found['group']}={found['option']} needs a package: pip install 'dcgan[{found['option']}]'"
    options = found["options"].split()
    similar = get_close_matches(found["option"], options, n=1, cutoff=0.5)
    suggestion = f": did you mean {found['group']}={similar[0]}?" if similar else ":"
    return f"there is no {found['group']}={found['option']}{suggestion} options: {', '.join(options)}"


def extras() -> list[str]:
    """Return the names of this package's optional dependencies."""
    try:
        return metadata("dcgan").get_all("Provides-Extra") or []
    except PackageNotFoundError:  # a checkout that is not installed
        return []


def reject_unread_overrides(cfg: DictConfig, overrides: Iterable[str], groups: Iterable[str], roots: list[str]) -> None:
    """Raise UserError for an override of a key that nothing reads: it would be recorded and have no effect.

    Args:
        cfg: The composed config.
        overrides: The command line's overrides.
        groups: The config groups.
        roots: The keys that the program reads. Other keys are read if these refer to them by interpolation.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    read = set(read_keys(tree, roots))
    options = {*groups} - {str(key) for key in tree}  # options that set keys all over the config
    for override in overrides:
        key = override_key(override)
        if override.startswith("~") or key in options or key.startswith(("hydra.", "hydra/")) or "@" in key:
            continue
        if is_within(key, read) or any(is_within(other, [key]) for other in read):
            continue
        if override.startswith("+"):
            raise UserError(unknown_key(key, [name for name, _ in flat_items(tree) if name != key]))
        raise UserError(f"{override} has no effect: with these settings nothing reads {key}, so leave it out")


def reject_other_kinds(cfg: DictConfig, config_file: Path) -> None:
    """Raise UserError if a mapping, list, text or switch of a command's own keys was removed or is something else.

    Constructors check what the options of the config groups contain, and numbers.

    Args:
        cfg: The composed config.
        config_file: The file in conf/ that the command line overrides.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    values = dict(flat_items(tree))
    for key, default in flat_items(own_keys(config_file)):
        value = values.get(key)
        kind = next((kind for kind in KINDS if isinstance(default, kind)), None)
        if kind is None or is_interpolation(default) or is_interpolation(value):
            continue
        if not isinstance(value, kind):
            raise UserError(f"{key} must be {KINDS[kind]}, got {'nothing' if value is None else value}")


@cache
def own_keys(config_file: Path) -> dict[str, Any]:
    """Return the keys that a config file sets itself, without those of Hydra."""
    tree: Any = OmegaConf.to_container(OmegaConf.load(config_file), resolve=False)
    return {key: value for key, value in tree.items() if key not in ("defaults", "hydra")}


def is_interpolation(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def unknown_key(key: str, known: list[str]) -> str:
    """Return the sentence for a key that does not exist, with the most similar one that does."""
    same_name = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    similar = sorted(same_name, key=len) or get_close_matches(key, known, n=1, cutoff=0.75)
    return f"there is no key {key}" + (f": did you mean {similar[0]}?" if similar else ": --help lists the keys")


def read_keys(tree: dict[str, Any], roots: list[str]) -> Iterator[str]:
    """Yield the roots and all keys that they refer to by interpolation, directly or through others."""
    waiting, seen = list(roots), set(roots)
    while waiting:
        key = waiting.pop()
        yield key
        for value in leaves(select(tree, key)):
            if is_interpolation(value):
                for name in KEY_IN_INTERPOLATION.findall(value):
                    if name not in seen and select(tree, name) is not None:
                        seen.add(name)
                        waiting.append(name)
