"""A hook of mkdocs: the pages of the site are the Markdown files of the repository, and the files that they link to."""

import subprocess
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

FOLDERS = ("docs", "experiments", "dcgan")
SUFFIXES = (".md", ".png", ".gif", ".csv", ".jsonl", ".yaml", ".py", ".ipynb")
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "LICENSE", "CITATION.cff")
TOP += ("pyproject.toml", "requirements.lock")


def on_files(files: Files, config: Any) -> Files:
    """Replace the files of docs_dir by those of the repository, with the paths that they have there."""
    root = Path(config.config_file_path).parent
    listed = subprocess.run(["git", "ls-files", *FOLDERS, *TOP], cwd=root, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.splitlines() if name in TOP or name.endswith(SUFFIXES)]
    theme = [file for file in files if file.src_dir != config.docs_dir]
    site = [File(name, str(root), config.site_dir, config.use_directory_urls) for name in names]
    return Files([*theme, *site])
