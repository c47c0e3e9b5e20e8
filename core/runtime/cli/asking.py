"""The running server that a command asks."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import httpx

from runtime.errors import InvalidRequest

TIMEOUT: Final = httpx.Timeout(10.0, read=600.0)

Command = TypeVar("Command", bound=Callable[..., Any])


def server_options(command: Command) -> Command:
    """Add --url, --api-key and --cacert, whose values make a `RunningServer`."""
    url = click.option("--url", default="http://127.0.0.1:3000", show_default=True, help="Address of the server.")
    key = click.option("--api-key", envvar="API_KEY", show_envvar=True, help="Key of the server, when it wants one.")
    trust = click.option(
        "--cacert",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="PEM file of who signed the server's certificate, when it is nobody that all know.",
    )
    return url(key(trust(command)))


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Where it is, and what is shown to it and expected of it."""

    url: str
    api_key: str | None
    cacert: Path | None

    def client(self) -> httpx.Client:
        """Return a client of its HTTP API; raises InvalidRequest when the certificate file is none."""
        headers = {} if self.api_key is None else {"authorization": f"Bearer {self.api_key}"}
        try:
            trusted = ssl.create_default_context(cafile=self.cacert)
        except ssl.SSLError as error:
            raise InvalidRequest(f"--cacert {self.cacert} holds no PEM certificate") from error
        return httpx.Client(timeout=TIMEOUT, headers=headers, verify=trusted)

    def address(self, route: str) -> str:
        return self.url.rstrip("/") + route

    def silence(self, error: httpx.TransportError | httpx.InvalidURL) -> str:
        """Say that no answer came."""
        return f"no answer from {self.url} ({type(error).__name__}); is the server running?"


def words_of(refusal: bytes) -> str:
    """Return the server's words in a refusal of TGI's or OpenAI's form; empty where there are none."""
    try:
        told = json.loads(refusal)["error"]
        return str(told["message"] if isinstance(told, dict) else told)
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
