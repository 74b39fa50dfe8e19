"""Make Hydra compose and print a config faster: it needs a quarter of a second, half the time of a short run.

The configs stay the same, and so do their files, up to the line breaks within long strings.
The processes that tests start (tests/processes.py) run without this.
"""

import copy
import pickle
from dataclasses import astuple
from functools import cache
from pathlib import Path

import pytest
import yaml
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf, grammar_parser
from omegaconf._utils import OmegaConfDumper

from tests.processes import ROOT


def install(patch: pytest.MonkeyPatch) -> None:
    """Patch Hydra until `patch` is undone."""
    # the first of two compositions only reads hydra.mode, which no config of this project sets
    patch.setattr(Hydra, "get_mode", lambda *_, **__: None)
    patch.setattr(ConfigRepository, "load_config", parse_each_file_once(ConfigRepository.load_config))
    merge = ConfigLoaderImpl._compose_config_from_defaults_list
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", merge_each_list_once(merge))
    # each composition copies all sources deeply, to replace the list of them in the copy
    patch.setattr(ConfigRepository, "__deepcopy__", lambda self, memo: copy.copy(self), raising=False)
    build_map = defaults_list._create_interpolation_map
    patch.setattr(defaults_list, "_create_interpolation_map", only_if_used(build_map))
    patch.setattr("omegaconf.base.parse", cache(grammar_parser.parse))  # of interpolations, such as ${model}
    patch.setattr("omegaconf.omegaconf.get_omega_conf_dumper", lambda: CompiledDumper)


class CompiledDumper(yaml.CDumper):
    """OmegaConf's dumper, with PyYAML's emitter in C instead of Python."""


CompiledDumper.add_representer(str, OmegaConfDumper.str_representer)


def fingerprint(sources) -> tuple:
    """Return a key for the config files of these sources: the content of those that a test may change."""
    changeable = (
        path
        for source in sources
        if source.scheme() == "file" and not Path(source.path).is_relative_to(ROOT)
        for path in sorted(Path(source.path).rglob("*.yaml"))
    )
    return (*(source.path for source in sources), *((path, path.read_bytes()) for path in changeable))


def parse_each_file_once(load):
    """Cache the parsed files."""
    parsed: dict[tuple, bytes] = {}

    def load_parsed(self, config_path):
        key = (fingerprint(self.sources), config_path)
        if key not in parsed:
            parsed[key] = pickle.dumps(load(self, config_path))
        return pickle.loads(parsed[key])

    return load_parsed


def merge_each_list_once(merge):
    """Cache the merged files of a defaults list. Each command sets its own values in a copy."""
    merged: dict[tuple, bytes] = {}

    def merge_cached(self, defaults, repo):
        key = (fingerprint(repo.get_sources()), *(astuple(default) for default in defaults))
        if key not in merged:
            merged[key] = pickle.dumps(merge(self, defaults, repo))
        return pickle.loads(merged[key])

    return merge_cached


def only_if_used(build_map):
    """Build the map of all choices only for a defaults list that refers to one."""

    def build(overrides, defaults, self_added):
        if any(default.is_interpolation() for default in defaults if not default.is_self()):
            return build_map(overrides, defaults, self_added)
        return OmegaConf.create()

    return build
