"""The examples of docs/extending.md are those that tests/extension tests."""

import re
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
