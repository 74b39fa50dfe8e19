"""Build objects from configs, with errors that name the config key."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from dcgan.common.errors import UserError

T = TypeVar("T")


def build_function(cfg: DictConfig, key: str) -> Callable[..., Any]:
    """Return the function, or the class with its first arguments, that the config describes at a dotted key."""
    return require_callable(key, instantiate(OmegaConf.select(cfg, key), _convert_="all"))


def require_callable(key: str, value: Any) -> Callable[..., Any]:
    """Return the value. Raise UserError if it cannot be called."""
    if not callable(value):
        raise UserError(f"{key} must be callable, such as a class with _partial_: true, got {repr(value)[:100]}")
    return value


def build(cfg: DictConfig, key: str, kind: type[T]) -> T:
    """Return the object that the config describes at a dotted key.

    Args:
        cfg: The config.
        key: Of the object's config.
        kind: The class that the object must be an instance of.

    Raises:
        UserError: The object is of another class.
        InstantiationException: It cannot be built; `dcgan.common.errors.explain` turns this into a sentence.
    """
    return require_instance(key, instantiate(OmegaConf.select(cfg, key), _convert_="all"), kind)


def build_all(cfg: DictConfig, key: str, kind: type[T]) -> dict[str, T]:
    """Return the objects of the nodes below a dotted key, by name. Nodes that are null are left out."""
    names = [name for name, node in (OmegaConf.select(cfg, key) or {}).items() if node is not None]
    return {name: build(cfg, f"{key}.{name}", kind) for name in names}


def require_instance(key: str, value: Any, kind: type[T]) -> T:
    """Return the value. Raise UserError if it is not an instance of `kind`."""
    if not isinstance(value, kind):
        name = value.__module__ + "." + value.__qualname__ if isinstance(value, type) else repr(value)
        raise UserError(f"{key} must be a {kind.__module__}.{kind.__qualname__}, got {name[:100]}")
    return value


@contextmanager
def name_config_key(key: str) -> Iterator[None]:
    """Within the context, an error is reported as one of the object that the config describes at this key."""
    try:
        yield
    except Exception as error:
        raise InstantiationException(f"{error}\nfull_key: {key}") from error
