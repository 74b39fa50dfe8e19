"""The examples of docs/extending.md are those that tests/extension tests; the page of all keys is up to date."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import dcgan.runs.sweeps  # noqa: F401  # the resolvers of the configs

ROOT = Path(__file__).parent
BLOCK = re.compile(r"```(?:python|yaml)\n(.*?)```", re.DOTALL)


def test_each_example_of_the_extending_page_is_in_the_tested_package():
    page = (ROOT.parent / "docs" / "extending.md").read_text()
    files = [path.read_text() for suffix in ("py", "yaml") for path in (ROOT / "extension").rglob(f"*.{suffix}")]
    blocks = BLOCK.findall(page)
    assert len(blocks) > 20
    assert [block for block in blocks if not any(block.strip() in content for content in files)] == []


def test_each_kind_of_part_is_on_the_extending_page():
    page = (ROOT.parent / "docs" / "extending.md").read_text()
    for folder in (ROOT / "extension" / "conf").iterdir():
        assert folder.name in page.lower()


def test_configuration_page_is_generated_from_the_current_configs():
    module = runpy.run_path(str(ROOT.parent / "docs" / "configuration.py"))
    page = module["page"]()
    assert (ROOT.parent / "docs" / "configuration.md").read_text() == page, "run python docs/configuration.py"
    assert re.findall(r"^\| `\w+` \|  \|", page, re.MULTILINE) == []  # each option is described


COMMAND = re.compile(r"python -m dcgan\.(train|sample|evaluate|export) ([^`\n]*)")
PAGES = [ROOT.parent / "README.md", *(ROOT.parent / "docs").glob("*.md")]
NOT_COMPOSED = ("...", "--", "-m ", "mlflow", "checkpoint=CKPT mode=data")


def documented_commands():
    """Yield the command and its overrides of each command of the documentation that stands alone."""
    for page in PAGES:
        for command, rest in COMMAND.findall(page.read_text().replace("\\\n", " ")):
            if not any(part in rest for part in NOT_COMPOSED):
                yield command, shlex.split(rest, comments=True)


@pytest.mark.parametrize(("command", "overrides"), list(documented_commands()), ids=lambda value: " ".join(value))
def test_documented_command_has_existing_keys_and_options(command, overrides):
    with initialize_config_dir(str(ROOT.parent / "conf"), version_base="1.3"):
        compose(command, overrides)
