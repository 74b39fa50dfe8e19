"""The examples of docs/extending.md are those that tests/extension tests; the page of all keys is up to date."""

import re
import runpy
from pathlib import Path

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
