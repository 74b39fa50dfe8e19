"""The project's own files agree with each other: versions, the Pythons that CI tests, the changelog, the templates."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import dcgan

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# not in an unpacked source distribution
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ISSUE_FORMS = sorted(
    set((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) - {ROOT / ".github/ISSUE_TEMPLATE/config.yml"}
)
SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def read_yaml(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def test_version_is_defined_once():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert ROOT / PROJECT["tool"]["hatch"]["version"]["path"] == Path(dcgan.__file__)
    assert read_yaml(ROOT / "CITATION.cff")["version"] == dcgan.__version__


def test_license_is_the_same_everywhere():
    assert read_yaml(ROOT / "CITATION.cff")["license"] == PROJECT["project"]["license"]


def supported_pythons() -> list[str]:
    allowed = SpecifierSet(PROJECT["project"]["requires-python"])
    return [f"3.{minor}" for minor in range(8, 30) if f"3.{minor}" in allowed]


def test_classifiers_name_the_supported_pythons():
    names = re.findall(r"Python :: (3\.\d+)\n", "\n".join([*PROJECT["project"]["classifiers"], ""]))
    assert names == supported_pythons()


@pytest.mark.skipif(not WORKFLOWS, reason="not in a source distribution")
def test_ci_tests_the_supported_pythons():
    jobs = read_yaml(ROOT / ".github" / "workflows" / "test.yml")["jobs"]
    assert jobs["locked"]["strategy"]["matrix"]["python"] == supported_pythons()
    unlocked = {entry["resolution"]: entry["python"] for entry in jobs["unlocked"]["strategy"]["matrix"]["include"]}
    assert unlocked == {"lowest-direct": supported_pythons()[0], "highest": supported_pythons()[-1]}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_can_only_read_and_end(path):
    workflow = read_yaml(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[\w/-]+@v\d+", step.get("uses", "actions/none@v1"))


@pytest.mark.parametrize("path", ISSUE_FORMS, ids=lambda path: path.name)
def test_issue_forms_ask_for_the_command_and_the_summary(path):
    form = read_yaml(path)
    assert form["name"]
    assert form["description"]
    fields = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(fields) == len(set(fields))
    assert "command" in fields
    assert "summary.json" in path.read_text()


def test_changelog_has_the_form_of_keep_a_changelog():
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert lines[0] == "# Changelog"
    versions = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert versions[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    parts = re.split(r"^## .*$", "\n".join(lines), flags=re.MULTILINE)[1:]
    for part in parts:
        sections = re.findall(r"^### (.*)$", part, re.MULTILINE)
        assert set(sections) <= SECTIONS
        assert len(sections) == len(set(sections))


def test_every_make_target_is_phony_and_has_a_help_text():
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z][a-z-]*):.*## ", makefile, re.MULTILINE))
