"""A local server with the part of a model hub's HTTP interface that uploads and downloads of small files need."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

TOKEN = "hf_write"
FILES_API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/(?P<action>revision|tree|preupload|commit)/(?P<revision>.+)")
FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")

Commits = dict[str, dict[str, bytes]]  # by revision, and by hash: the content of each file


def commit_hash(files: dict[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class HubServer(ThreadingHTTPServer):
    """The server. `repositories` are the commits of each USER/NAME."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Commits] = {}
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, name: str, files: dict[str, bytes], revision: str = "main") -> str:
        """Add files to a revision, and return the hash of the commit."""
        commits = self.repositories.setdefault(name, {"main": {}})
        content = commits.get(revision, {}) | files
        commits[revision] = commits[commit_hash(content)] = content
        return commit_hash(content)


class Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, *args) -> None:
        """Print nothing."""

    def answer(self, content: object, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fail(self, status: int, code: str) -> None:
        self.answer({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

    def find(self, name: str, revision: str) -> dict[str, bytes] | None:
        """Return the files of a revision; None after an error was sent."""
        if name not in self.server.repositories:
            return self.fail(404, "RepoNotFound")
        if revision not in self.server.repositories[name]:
            return self.fail(404, "RevisionNotFound")
        return self.server.repositories[name][revision]

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.server.requests.append(f"{self.command} {path}")
        if match := FILES_API.fullmatch(path):
            files = self.find(match["name"], match["revision"])
            if files is not None and match["action"] == "revision":
                siblings = [{"rfilename": file} for file in files]
                self.answer({"id": match["name"], "sha": commit_hash(files), "siblings": siblings})
            elif files is not None:
                self.answer([{"type": "file", "path": f, "size": len(x), "oid": etag(x)} for f, x in files.items()])
        elif match := FILE.fullmatch(path):
            files = self.find(match["name"], match["revision"])
            if files is not None and match["file"] in files:
                content = files[match["file"]]
                self.answer(content, ETag=f'"{etag(content)}"', X_Repo_Commit=commit_hash(files))
            elif files is not None:
                self.fail(404, "EntryNotFound")
        else:
            self.fail(404, "NotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.server.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.fail(401, "Unauthorized")
        elif path == "/api/repos/create":
            content = json.loads(body)
            name = f"{content.get('organization') or 'me'}/{content['name']}"
            exists = name in self.server.repositories
            self.server.repositories.setdefault(name, {"main": {}})
            self.answer({"url": f"{self.server.address}/{name}", "name": name}, 409 if exists else 200)
        elif match := FILES_API.fullmatch(path):
            self.change(match["name"], match["action"], match["revision"], body)
        else:
            self.answer({})  # such as the validation of the model card

    def change(self, name: str, action: str, revision: str, body: bytes) -> None:
        if self.find(name, revision) is None:
            return
        if action == "preupload":
            files = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": f, "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        else:
            entries = [json.loads(line) for line in body.splitlines()]
            added = {
                entry["value"]["path"]: base64.b64decode(entry["value"]["content"])
                for entry in entries
                if entry["key"] == "file"
            }
            commit = self.server.commit(name, added, revision)
            self.answer(
                {"success": True, "commitOid": commit, "commitUrl": f"{self.server.address}/{name}/commit/{commit}"}
            )


def etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serve_hub() -> Iterator[HubServer]:
    """Run a server within the context."""
    with HubServer() as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()
