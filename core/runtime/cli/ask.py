"""`runtime ask`: a small client."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import click
import httpx

from runtime.cli.asking import RunningServer, server_options, words_of
from runtime.errors import InvalidRequest


@click.command("ask")
@server_options
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A picture to ask about; may be repeated.",
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
    server = RunningServer(url, api_key, cacert)
    try:
        with server.client() as client:
            _print_answer(client, server.address("/v1/chat/completions"), body)
    except InvalidRequest as error:
        raise click.ClickException(error.message) from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise click.ClickException(server.silence(error)) from error
    except (ValueError, LookupError, TypeError) as error:
        message = f"{url} answered what is no chat reply; is it the address of `runtime serve`?"
        raise click.ClickException(message) from error


def _image_content(path: Path) -> dict[str, Any]:
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:;base64,{data}"}}


def _print_answer(client: httpx.Client, address: str, body: dict[str, Any]) -> None:
    with client.stream("POST", address, json=body) as response:
        if response.is_error:
            raise click.ClickException(words_of(response.read()) or f"the server answered {response.status_code}")
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
