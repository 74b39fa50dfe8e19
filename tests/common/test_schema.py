"""The structure of what is read from files."""

import math
import re
from collections import OrderedDict

import pytest

from dcgan.common.errors import UserError
from dcgan.common.schema import check_schema, read_json, read_yaml

SCHEMA = {"step": int, "metrics": {str: float | None}, "data": {"root": str}, "names": [str], "done": bool}
VALID = {
    "step": 3,
    "metrics": {"a": 1, "b": None, "c": math.inf},
    "data": {"root": "x", "more": []},
    "names": [],
    "done": True,
}


@pytest.mark.parametrize("value", [VALID, OrderedDict(VALID), VALID | {"other": object()}])
def test_value_with_the_structure_is_accepted(value):
    check_schema(value, SCHEMA)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"step": True}, "step must be of type int, got True"),
        ({"step": 1.0}, "step must be of type int, got 1.0"),
        ({"done": 1}, "done must be of type bool, got 1"),
        ({"metrics": {"a": True}}, "metrics.a must be of type float or null, got True"),
        ({"metrics": {"a": "1"}}, "metrics.a must be of type float or null, got '1'"),
        ({"metrics": None}, "metrics must be of type dict, got None"),
        ({"data": {}}, "it has no data.root"),
        ({"names": "ab"}, "names must be of type list, got 'ab'"),
        ({"names": ["a", 2]}, "names[1] must be of type str, got 2"),
    ],
)
def test_node_of_another_type_is_named(change, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        check_schema(VALID | change, SCHEMA)
    with pytest.raises(ValueError, match=r"^its content must be of type dict, got 5$"):
        check_schema(5, SCHEMA)


def test_optional_name():
    check_schema({}, {"a?": int})
    with pytest.raises(ValueError, match=r"^a must be of type int"):
        check_schema({"a": "x"}, {"a?": int})


def test_names_and_any_other_names():
    schema = {str: int, "a": str}
    check_schema({"a": "x", "b": 1}, schema)
    for value in ({"b": 1}, {"a": 1}, {"a": "x", "b": "y"}):
        with pytest.raises(ValueError, match=r"it has no a|a must be of type str|b must be of type int"):
            check_schema(value, schema)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("[]", "its content must be of type dict"),
        ('{"a": NaN}', "the number NaN is not finite"),
        ('{"a": -Infinity}', "the number -Infinity is not finite"),
        ('{"a": 1e999}', "the number 1e999 is not finite"),
        ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "recursion"),
        ('{"a": "' + "\udcff" + '"}', "utf-8"),
    ],
)
def test_json_file_that_cannot_be_used_is_named(tmp_path, text, reason):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=rf"^{path} cannot be read \(.*{reason}") as caught:
        read_json(path, {"a": float})
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        read_json(tmp_path / "nowhere.json", dict)


def test_json_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1, "b": [0.5]}')
    assert read_json(tmp_path / "a.json", {"b": [float]}) == {"a": 1, "b": [0.5]}


@pytest.mark.parametrize("text", ["", "- a", "a: [", "a: ${b}", "a: \x00", "{" * 2000])
def test_yaml_file_that_cannot_be_used_is_named(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^{path} cannot be read"):
        read_yaml(path, {"a": str})
