"""A small model hub on a free port: what huggingface_hub asks of one to make, fill and read."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """Repositories by name, each a list of commits; and what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repos: dict[str, list[Files]] = {}
        self.asked: list[str] = []
        self.made: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def downloads(self) -> list[str]:
        """The files whose content was sent, in order."""
        return [
            told.split("/resolve/")[1].split("/", 1)[1]
            for told in self.asked
            if told[:3] == "GET" and "/resolve/" in told
        ]


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    with Hub() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _sha(repo: str, number: int) -> str:
    return hashlib.sha1(f"{repo} {number}".encode(), usedforsecurity=False).hexdigest()


class _Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests' output stays clean."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        if path.startswith("/api/models/"):
            owner, name, *rest = path.removeprefix("/api/models/").split("/")
        else:
            owner, name, *rest = path.removeprefix("/").split("/")
        repo = f"{owner}/{name}"
        if repo not in self.server.repos:
            return self._json(
                {"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"}
            )
        revision = rest[1] if len(rest) > 1 else "main"
        commits = self.server.repos[repo]
        by_sha = {_sha(repo, number): number for number in range(len(commits))}
        number = len(commits) - 1 if revision == "main" else by_sha.get(revision)
        if number is None:
            return self._json(
                {"error": "No such revision"}, 404, {"X-Error-Code": "RevisionNotFound"}
            )
        files, sha = commits[number], _sha(repo, number)
        if not path.startswith("/api/"):
            return self._file(files.get("/".join(rest[2:])), sha)
        if rest and rest[0] == "tree":
            return self._json(
                [
                    {"type": "file", "path": p, "size": len(c), "oid": _oid(c)}
                    for p, c in files.items()
                ]
            )
        return self._json(
            {
                "id": repo,
                "modelId": repo,
                "sha": sha,
                "private": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": p} for p in files],
            }
        )

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"POST {path}")
        body = self._body()
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        repo = "/".join(path.removeprefix("/api/models/").split("/")[:2])
        if "/preupload/" in path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for one in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if "/commit/" in path:
            return self._commit(
                repo, [json.loads(line) for line in body.splitlines() if line.strip()]
            )
        return self._json({"error": f"nothing at {path}"}, 404)

    def _create(self, asked: dict[str, Any]) -> None:
        self.server.made.append(asked)
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.server.repos:
            return self._json({"url": f"{self.server.url}/{repo}", "error": "it exists"}, 409)
        self.server.repos[repo] = [{".gitattributes": b""}]
        return self._json({"url": f"{self.server.url}/{repo}", "id": repo, "name": repo})

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files = dict(self.server.repos[repo][-1])
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                return self._json({"error": f"unknown {line['key']}"}, 400)
        self.server.repos[repo].append(files)
        sha = _sha(repo, len(self.server.repos[repo]) - 1)
        return self._json(
            {
                "success": True,
                "commitOid": sha,
                "commitUrl": f"{self.server.url}/{repo}/commit/{sha}",
                "hookOutput": "",
            }
        )

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _file(self, content: bytes | None, sha: str) -> None:
        if content is None:
            return self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        return self._send(
            content,
            "application/octet-stream",
            200,
            {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": sha},
        )

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), "application/json", status, headers or {})

    def _send(self, content: bytes, kind: str, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _oid(content: bytes) -> str:
    """What git calls the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
