"""The structure of what is read from files: one check for checkpoints, exports, JSON files and caches."""

import json
import math
import reprlib
from pathlib import Path
from typing import Any, get_args

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dcgan.common.errors import UserError, first_line

# a type, or several, such as `int | None`; [schema]: a list of any length; {name: schema}: a dict with these keys, and
# maybe others, whose values are those of the key `str`, if any; a key need not be there if its name ends in "?"
Schema = Any


def check_schema(value: Any, schema: Schema, name: str = "") -> None:
    """Raise ValueError unless nested plain containers have the structure of a schema.

    An integer is a valid float. A boolean is no number.

    Args:
        value: The containers.
        schema: What they must be.
        name: The dotted name of the value, for the message.
    """
    if isinstance(schema, dict):
        check_type(name, value, dict)
        optional = {key.removesuffix("?") for key in schema if key is not str and key.endswith("?")}
        schema = {key if key is str else key.removesuffix("?"): node for key, node in schema.items()}
        required = [key for key in schema if key is not str]
        for key in {**dict.fromkeys(required), **(value if str in schema else {})}:
            path = f"{name}.{key}".lstrip(".")
            if key in value:
                check_schema(value[key], schema.get(key, schema.get(str)), path)
            elif key not in optional:
                raise ValueError(f"it has no {path}")
    elif isinstance(schema, list):
        check_type(name, value, list)
        for i, item in enumerate(value):
            check_schema(item, schema[0], f"{name}[{i}]")
    else:
        check_type(name, value, schema)


def check_type(name: str, value: Any, kind: Any) -> None:
    kinds = get_args(kind) or (kind,)
    accepted = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
        raise ValueError(f"{name or 'its content'} must be of type {names}, got {reprlib.repr(value)}")


def read_json(path: Path, schema: Schema) -> Any:
    """Return the content of a JSON file. NaN and infinity, which JSON does not have, are rejected.

    Raises:
        UserError: The file cannot be read, or does not have the structure of the schema.
    """
    try:
        content = json.loads(path.read_text(), parse_constant=parse_finite, parse_float=parse_finite)
        check_schema(content, schema)
    except (OSError, ValueError, RecursionError) as error:  # a deeply nested file exceeds Python's stack
        raise UserError(f"{path} cannot be read ({first_line(error)})") from error
    return content


def read_yaml(path: Path, schema: Schema, resolve: bool = True) -> Any:
    """Return the content of a YAML file.

    Args:
        path: The file.
        schema: The structure of the content.
        resolve: Replace interpolations by their values.

    Raises:
        UserError: As in `read_json`.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=resolve)
        check_schema(content, schema)
    except (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)})") from error
    return content


def parse_finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text} is not finite")
    return number
