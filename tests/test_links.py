"""Local links in Markdown files lead to files of the repository and to existing headings, by the rules of GitHub."""

import re
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
# code spans, which end with their paragraph, and comments
CODE = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n\n).)*?(?<!`)\1(?!`)|<!--.*?-->", re.DOTALL)
# [text](target "title"); the text may hold an image
INLINE = re.compile(
    r"\]\(\s*(?:<([^<>\n]*)>|((?:[^\s()]|\([^\s()]*\))*))(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?\s*\)"
)
DEFINITION = re.compile(r"^ {0,3}\[([^\]^][^\]]*)\]:\s*<?([^\s>]+)>?", re.MULTILINE)
REFERENCE = re.compile(r"\[[^\[\]]+\]\[([^\[\]]+)\]")
HTML_LINK = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)\s*=\s*[\"']([^\"']+)[\"']", re.IGNORECASE)
HTML_ANCHOR = re.compile(r"<\w+\b[^>]*?\b(?:id|name)\s*=\s*[\"']([^\"']+)[\"']", re.IGNORECASE)
HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


@cache
def repository_paths() -> frozenset[Path]:
    """Return the files that git tracks, new ones that it does not ignore, and their folders."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    files = [path for name in names if name and (path := ROOT / name).exists()]
    return frozenset(files) | {folder for file in files for folder in file.parents if folder.is_relative_to(ROOT)}


def markdown_files() -> list[str]:
    if not (ROOT / ".git").exists():  # an unpacked source distribution
        return []
    return sorted(str(path.relative_to(ROOT)) for path in repository_paths() if path.suffix == ".md")


def without_code_blocks(text: str) -> str:
    """Return the text with fenced code blocks and the front matter as empty lines."""
    lines, fence = [], ""
    for number, line in enumerate(text.splitlines()):
        match = FENCE.match(line)
        if fence:
            closes = fence == "---" if line == "---" else match and match[1].startswith(fence) and not match[2].strip()
            fence = "" if closes else fence
            line = ""
        elif number == 0 and line == "---":
            fence, line = "---", ""
        elif match and not (match[1][0] == "`" and "`" in match[2]):
            fence, line = match[1], ""
        lines.append(line)
    return "\n".join(lines)


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading: its text in lower case, without punctuation, "-" for spaces."""
    text = re.sub(r"!\[([^\]]*)\]\([^)]*\)", "", heading)  # images have no text
    text = re.sub(r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"<[^>]+>", "", text)
    # emphasis; underscores within words stay
    text = re.sub(r"(?<!\w)(_{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the anchors of a Markdown file. Repeated headings are numbered: "a", "a-1", "a-2"."""
    text = without_code_blocks(path.read_text(encoding="utf-8"))
    found: dict[str, int] = {}
    lines = text.split("\n")
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        match = HEADING.match(line)
        underlined = UNDERLINE.match(following) and line.strip() and not re.match(r" {0,3}(?:[|>#-]|\d+\.)", line)
        if not match and not underlined:
            continue
        name = base = slug(match[1] if match else line)
        while name in found:
            found[base] += 1
            name = f"{base}-{found[base]}"
        found[name] = 0
    return frozenset(found) | frozenset(HTML_ANCHOR.findall(CODE.sub("", text)))


def links(text: str) -> list[str]:
    """Return the targets of all links and images of a Markdown text."""
    text = CODE.sub("", without_code_blocks(text))
    defined = {name.lower(): target for name, target in DEFINITION.findall(text)}
    undefined = [f"[{name}]" for name in REFERENCE.findall(text) if name.lower() not in defined]
    inline = [bracketed or target for bracketed, target in INLINE.findall(text)]
    return [*inline, *defined.values(), *HTML_LINK.findall(text), *undefined]


def problem(source: Path, link: str, paths: frozenset[Path]) -> str | None:
    """Return what is wrong with a link of the file `source`, None if it is right or leads out of the repository."""
    if EXTERNAL.match(link):
        return None
    if link.startswith("["):
        return "this reference is not defined"
    name, _, fragment = unquote(link).partition("#")
    if not link:
        return "the target is empty"
    if name.startswith("/"):
        return "the path is absolute: give one relative to this file"
    target = Path(source.parent, name).resolve() if name else source
    if target not in paths:
        return "there is no such file or folder in the repository"
    if fragment and target.suffix == ".md" and fragment not in anchors(target):
        return f"{target.name} has no heading for #{fragment}"
    return None


@pytest.mark.parametrize("name", markdown_files())
def test_links_lead_to_files_and_headings(name):
    source, paths = ROOT / name, repository_paths()
    broken = {link: problem(source, link, paths) for link in links(source.read_text(encoding="utf-8"))}
    assert {link: reason for link, reason in broken.items() if reason} == {}


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Use a trained generator", "use-a-trained-generator"),
        ("What's new, in 0.2?", "whats-new-in-02"),
        ("`model.base_channels` & `seed`", "modelbase_channels--seed"),
        ("[Losses](losses) and **penalties**", "losses-and-penalties"),
        ("An _italic_ snake_case word", "an-italic-snake_case-word"),
        ("Größe 28 x 28 - 64", "größe-28-x-28---64"),
    ],
)
def test_slugs_are_those_of_github(heading, anchor):
    assert slug(heading) == anchor


def test_broken_links_are_found(tmp_path):
    page, other = tmp_path / "page.md", tmp_path / "docs" / "other.md"
    other.parent.mkdir()
    other.write_text('# Title\n\n## Twice\n\n## Twice\n\nUnderlined\n---\n\n```\n# code\n```\n<a id="own"></a>\n')
    page.write_text(
        "[ok](docs/other.md) [ok](docs/other.md#twice-1 'title') [ok](docs) ![ok](docs/other.md#own) [ok](#here)\n"
        "[ok](docs/other.md#underlined) [ok](https://example.org/x#y) [ok](mailto:x@example.org) `[code](no.md)`\n"
        "[![an image](no.png)](docs/no.md) [a](docs/other.md#code) [b](#there) [c](../page.md) [d](/docs/other.md)\n"
        '[e][known] [f][unknown] <img src="no.svg">\n\n[known]: docs/other.md#twice-2\n\n# Here\n'
    )
    paths = frozenset({page, other, other.parent})
    broken = [link for link in links(page.read_text()) if problem(page, link, paths)]
    assert set(broken) == {
        *("no.png", "docs/no.md", "docs/other.md#code", "#there", "../page.md", "/docs/other.md"),
        *("[unknown]", "no.svg", "docs/other.md#twice-2"),
    }
