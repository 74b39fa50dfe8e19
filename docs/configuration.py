"""Write docs/configuration.md from conf/ and the docstrings: python docs/configuration.py

tests/test_docs.py compares the page with the configs, so it cannot be outdated.
"""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from dcgan.common.config_tree import top_comment

HERE = Path(__file__).parent
CONF = HERE.parent / "conf"
PAGE = HERE / "configuration.md"
COMMAND_GROUPS = {
    "mode": "python -m dcgan.sample",
    "probe": "python -m dcgan.evaluate",
}  # the others are of dcgan.train
SAME_OPTIONS = {"discriminator_activation": "activation", "discriminator_normalization": "normalization"}
NO_GROUPS = ("base", "hydra")
KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w.]+):(?: +(?P<value>[^#]*?))? *(?:# (?P<comment>.*))?$")
INTRODUCTION = """# Configuration

<!-- written by docs/configuration.py -->

All keys and options of the commands, generated from `conf/` and the docstrings. `python -m dcgan.train --help` has a
summary, and `python -m dcgan.train ... --cfg job` prints the complete configuration of a command.

`group=option` selects an option: `python -m dcgan.train model=upsample_conv loss=hinge`. `key=value` sets a key, also
one of an option: `loss.label_smoothing=0.1`. `+key=value` adds one that the option's class takes, but the config does
not list.
"""
ENDING = """
Your own options go into a folder of your own: [extending](extending.md).
"""


def keys_of(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield key, value and comment of each line of a YAML file that sets a single value."""
    parents: list[tuple[int, str]] = []
    for line in path.read_text().splitlines():
        match = KEY.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        parents = [parent for parent in parents if parent[0] < indent]
        key = ".".join([*(name for _, name in parents), match["key"]])
        if match["value"]:
            yield key, match["value"].strip(), match["comment"] or ""
        else:
            parents.append((indent, match["key"]))


def first_target(config: Any) -> str | None:
    """Return the first `_target_` of a config, None if it has none."""
    if isinstance(config, dict):
        if isinstance(config.get("_target_"), str):
            return config["_target_"]
        return next(filter(None, map(first_target, config.values())), None)
    return None


def describe(path: Path) -> str:
    """Return what an option is: the comment at the top of its file, else the first line of its class's docstring."""
    if comment := top_comment(path):
        return comment
    target = first_target(yaml.safe_load(path.read_text()))
    if target is None:
        return ""
    if not target.startswith("dcgan."):
        return f"`{target}`"
    module, _, name = target.rpartition(".")
    return (inspect.getdoc(getattr(import_module(module), name)) or "").partition("\n")[0]


def own_keys(path: Path) -> str:
    """Return the keys that an option has in addition to those of its base, with their values."""
    shown = [
        f"`{key}={value}`" + (f" ({comment})" if comment else "")
        for key, value, comment in keys_of(path)
        if "_target_" not in key + value
        and "_partial_" not in key
        and "${" not in value
        and not key.startswith("defaults")
    ]
    return ", ".join(dict.fromkeys(shown))


def escape(text: str) -> str:
    return text.replace("|", "\\|")


def defaults() -> dict[str, str]:
    """Return the default option of each group of dcgan.train."""
    entries = yaml.safe_load((CONF / "train.yaml").read_text())["defaults"]
    return {key: value for entry in entries if isinstance(entry, dict) for key, value in entry.items()}


def page() -> str:
    """Return the text of docs/configuration.md."""
    lines = [INTRODUCTION, "## Keys of a training\n", "| key | default | |", "| --- | --- | --- |"]
    for key, value, comment in keys_of(CONF / "train.yaml"):
        if not key.startswith(("defaults", "hydra", "run_dir", "sweep.hash", "sweep.keys")):
            lines.append(f"| `{key}` | `{escape(value)}` | {escape(comment)} |")
    lines += [
        "",
        "Keys of all generators, discriminators and data modules (`model.latent_dim`, `data.batch_size`, ...):\n",
        "| key | default | |",
        "| --- | --- | --- |",
    ]
    for base, prefix in (("generator", "model"), ("discriminator", "discriminator"), ("data", "data")):
        for key, value, comment in keys_of(CONF / "base" / f"{base}.yaml"):
            if "${" in value:  # set by another key
                continue
            lines.append(f"| `{prefix}.{key}` | `{escape(value)}` | {escape(comment)} |")
    for group in sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in NO_GROUPS):
        default = defaults().get(group)
        note = f"of `{COMMAND_GROUPS[group]}`" if group in COMMAND_GROUPS else f"default: {default or 'none'}"
        lines += ["", f"## {group}\n", f"*{note}*\n"]
        if group in SAME_OPTIONS:
            lines.append(f"The options of [{SAME_OPTIONS[group]}](#{SAME_OPTIONS[group]}), for the discriminator.")
            continue
        lines += ["| option | what it is | its keys |", "| --- | --- | --- |"]
        for path in sorted((CONF / group).glob("*.yaml")):
            lines.append(f"| `{path.stem}` | {escape(describe(path))} | {escape(own_keys(path))} |")
    return "\n".join(lines) + "\n" + ENDING


if __name__ == "__main__":
    PAGE.write_text(page())
