"""Repositories of a model hub, named `hub:USER/NAME` or `hub:USER/NAME@REVISION`. Needs the extra `hub`.

The hub is https://huggingface.co, or $HF_ENDPOINT. Downloads are cached: without a network, the cached files are used.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dcgan.common.errors import UserError, first_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PREFIX = "hub:"
NAME = re.compile(r"hub:(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?", re.ASCII)
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class HubRepository:
    """A repository of models.

    Args:
        name: USER/NAME.
        revision: A branch, tag or commit; None: the main branch.
    """

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}{'' if self.revision is None else f'@{self.revision}'}"

    def download(self, files: tuple[str, ...]) -> Path:
        """Download these files, those that the repository has, and return their folder.

        Raises:
            UserError: The hub cannot be reached, or has no such repository or revision.
        """
        with self.errors() as api:
            return Path(api.snapshot_download(self.name, revision=self.revision, allow_patterns=[*files]))

    def upload(self, folder: Path) -> str:
        """Upload the files of a folder in one commit, and return the repository's address. It is made if it is missing.

        Raises:
            UserError: The hub cannot be reached, or rejects the upload.
        """
        with self.errors() as api:
            api.create_repo(self.name, exist_ok=True)
            message = "Upload a generator with dcgan"
            api.upload_folder(repo_id=self.name, folder_path=folder, revision=self.revision, commit_message=message)
            return f"{api.endpoint}/{self.name}"

    def check_token(self) -> None:
        """Raise UserError unless there is a token, without which nothing can be uploaded."""
        with self.errors():
            from huggingface_hub import get_token

            if get_token() is None:
                raise UserError(f"{self} needs a token with write access: {LOGIN}")

    @contextmanager
    def errors(self) -> Iterator["HfApi"]:
        """Yield the client. Within the context, the hub's errors become a UserError."""
        try:
            from huggingface_hub import HfApi
            from huggingface_hub import errors as hub_errors
        except ImportError as error:
            raise UserError(
                f"{self} needs huggingface_hub, which is not installed: pip install 'dcgan[hub]'"
            ) from error
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="dcgan")
        try:
            yield api
        except hub_errors.RevisionNotFoundError as error:
            raise UserError(f"{PREFIX}{self.name} has no revision {self.revision or 'main'}: choose another") from error
        except hub_errors.RepositoryNotFoundError as error:
            raise UserError(
                f"there is no repository {self.name} on {api.endpoint} that you have access to: check the name; for a "
                f"private one, {LOGIN}"
            ) from error
        except hub_errors.HfHubHTTPError as error:
            raise UserError(f"{api.endpoint} has rejected {self} ({first_line(error)}): for access, {LOGIN}") from error
        except (hub_errors.HTTPError, OSError) as error:
            raise UserError(
                f"{api.endpoint} cannot be reached for {self}: check the network, or HF_ENDPOINT"
            ) from error


def hub_repository(name: str | Path) -> HubRepository | None:
    """Return the repository that a name such as "hub:USER/NAME@REVISION" stands for, None for a path.

    Raises:
        UserError: The name begins with "hub:", but has another form.
    """
    if not str(name).startswith(PREFIX):
        return None
    match = NAME.fullmatch(str(name))
    if match is None:
        raise UserError(f"a repository must be hub:USER/NAME or hub:USER/NAME@REVISION, got {name}")
    return HubRepository(match["name"], match["revision"])
