"""A small Hugging Face hub on the loopback, with what `huggingface_hub` asks for to fetch a model, and with faults."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants, file_download
from runtime.errors import ModelRefused
from runtime.model import FoundModel
from support.checkpoints import DEMO

Find = Callable[..., FoundModel]

FILES = {path.name: path.read_bytes() for path in DEMO.iterdir()}
"""The demo model's."""
WEIGHTS = "model.safetensors"
MODEL_ID = "toys/shapes"
WORDS = "words of the hub"
FIRST, SECOND = "1" * 40, "2" * 40
"""Two commits."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def file(self) -> str | None:
        """The file it is for."""
        match = re.fullmatch(r"/[^/]+/[^/]+/resolve/[^/]+/(.+)", self.path)
        return match[1] if match else None


@dataclass
class HubServer:
    """The repository of one model: its commits and branches; what was asked of it; what is to go wrong."""

    url: str = ""
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=lambda: {"main": FIRST})
    asked: list[Asked] = field(default_factory=list)
    refuse: Callable[[Asked], tuple[int, str] | None] = lambda _: None
    """Returns the status and X-Error-Code to answer with instead."""
    cut: set[str] = field(default_factory=set)
    """Files of which only the first half is sent, once."""
    halfway: Callable[[str], None] = lambda _: None
    """Called with the name of a file when half of it is sent."""

    def files(self, method: str) -> list[str]:
        """Names of the files asked for with that method, in order."""
        return [asked.file for asked in self.asked if asked.method == method and asked.file is not None]

    def commit_of(self, revision: str) -> str | None:
        commit = self.branches.get(revision, revision)
        return commit if commit in self.commits else None


@contextmanager
def hub_server(files: Mapping[str, bytes]) -> Iterator[HubServer]:
    """Serve a model whose first and only commit has these files."""
    hub = HubServer(commits={FIRST: dict(files)})

    class Handler(_Handler):
        repository = hub

    with _Server(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def use_hub(monkeypatch: pytest.MonkeyPatch, hub: HubServer) -> None:
    """Make it the hub of this process, where HF_ENDPOINT has been read already, and fetch in small pieces."""
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # version 0 looks in the second
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)
    monkeypatch.setattr("runtime.model.hub.PAUSES", (0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def refused(find: Find, *arguments: str) -> str:
    """Return the refusal's text, checked to be one line without words of the library or the hub, and addresses."""
    with pytest.raises(ModelRefused) as caught:
        find(*arguments)
    message = caught.value.message
    for leak in ("\n", "127.0.0.1", "http", "Error", WORDS):
        assert leak not in message
    assert len(message) < 300
    return message


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # not joined: a client may keep its connection

    def handle_error(self, *_: Any) -> None:
        """Be silent when a client hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repository: HubServer

    def log_message(self, *_: Any) -> None:
        """Be silent."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)  # a proxy is asked for whole addresses
        asked = Asked(self.command, path, {name.lower(): value for name, value in self.headers.items()})
        self.repository.asked.append(asked)
        refusal = self.repository.refuse(asked)
        model = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if refusal is not None:
            self._refuse(*refusal)
        elif model is not None:
            self._tell_model(*model.groups())
        elif file is not None:
            self._send_file(*file.groups())
        else:
            self._refuse(404, "")

    def _tell_model(self, model_id: str, revision: str) -> None:
        commit = self._commit(model_id, revision)
        if commit is not None:
            siblings = [
                {"rfilename": name, "size": len(content), "blobId": _etag(content)}
                for name, content in self.repository.commits[commit].items()
            ]
            body = json.dumps({"id": model_id, "sha": commit, "siblings": siblings}).encode()
            self._send(200, {"Content-Type": "application/json"}, body)

    def _send_file(self, model_id: str, revision: str, name: str) -> None:
        commit = self._commit(model_id, revision)
        if commit is None:
            return
        content = self.repository.commits[commit].get(name)
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        facts = {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start is None:
            self._send(200, facts, content, name)
        else:
            facts["Content-Range"] = f"bytes {start[1]}-{len(content) - 1}/{len(content)}"
            self._send(206, facts, content[int(start[1]) :], name)

    def _commit(self, model_id: str, revision: str) -> str | None:
        """Find the commit, or refuse."""
        if model_id != MODEL_ID:
            self._refuse(404, "RepoNotFound")
            return None
        commit = self.repository.commit_of(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound")
        return commit

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": WORDS}, b"{}")

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, name: str = "") -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        if name in self.repository.cut:
            self.repository.cut.remove(name)
            self.close_connection = True
            return
        if name:
            self.repository.halfway(name)
        self.wfile.write(body[half:])


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
