"""`runtime ask`: a small client."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path
from typing import Any

import click
import httpx

TIMEOUT = httpx.Timeout(10.0, read=600.0)


@click.command("ask")
@click.option("--url", default="http://127.0.0.1:3000", show_default=True, help="Address of the server.")
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A picture to ask about; may be repeated.",
)
@click.option("--api-key", envvar="API_KEY", show_envvar=True, help="Key of the server, when it wants one.")
@click.option(
    "--cacert",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of who signed the server's certificate, when it is nobody that all know.",
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="Tokens of the answer at most.")
@click.argument("question")
def ask(
    url: str,
    images: tuple[Path, ...],
    api_key: str | None,
    cacert: Path | None,
    max_new_tokens: int | None,
    question: str,
) -> None:
    """Ask a running server a QUESTION and stream the answer."""
    content = [_image_content(path) for path in images] + [{"type": "text", "text": question}]
    body = {
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "stream": True,
        "max_tokens": max_new_tokens,
    }
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    try:
        with httpx.Client(timeout=TIMEOUT, headers=headers, verify=_trust(cacert)) as client:
            _print_answer(client, url.rstrip("/") + "/v1/chat/completions", body)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise click.ClickException(f"no answer from {url} ({type(error).__name__}); is the server running?") from error
    except (ValueError, LookupError, TypeError) as error:
        message = f"{url} answered what is no chat reply; is it the address of `runtime serve`?"
        raise click.ClickException(message) from error


def _image_content(path: Path) -> dict[str, Any]:
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:;base64,{data}"}}


def _trust(cacert: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cacert)
    except ssl.SSLError as error:
        raise click.ClickException(f"--cacert {cacert} holds no PEM certificate") from error


def _print_answer(client: httpx.Client, address: str, body: dict[str, Any]) -> None:
    with client.stream("POST", address, json=body) as response:
        if response.is_error:
            raise click.ClickException(_told(response.read(), response.status_code))
        is_first = True
        for line in response.iter_lines():
            if not line.startswith("data:") or line.endswith("[DONE]"):
                continue
            event = json.loads(line.removeprefix("data:"))
            if "error" in event:
                click.echo()
                raise click.ClickException(event["error"]["message"])
            text = event["choices"][0]["delta"].get("content", "")
            click.echo(text.lstrip() if is_first else text, nl=False)
            is_first = is_first and not text.strip()
        click.echo()


def _told(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {status}"
