"""A conversation to a prompt, with the chat template of the model.

A template is a program in the model folder: it runs in a sandbox without attributes, imports or changes to its
arguments, with bounded loops and output. Users cannot change it; what they send are its arguments.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.errors import InvalidRequest, ModelRefused, TemplateError
from runtime.prompt.files import read_json, read_text
from runtime.prompt.tokenizer import Tokenizer
from runtime.runtime import ImagePart, ImageUrlPart, Message, Part, TextPart, TokensPart

RENDERED_LIMIT: Final = 16 * 2**20
"""Characters of a rendered conversation; a template that writes more is taken for an endless loop."""
_REASON_LIMIT: Final = 500
"""Characters of a template's own message that are shown to a user."""


class ChatTemplate:
    """The chat template of a model. Safe to use from several threads."""

    def __init__(self, source: str, bos_token: str, eos_token: str) -> None:
        """Raises ModelRefused when the template has a syntax error."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ModelRefused(f"the chat template of the model has a syntax error in line {error.lineno}") from None
        except Exception:
            raise ModelRefused("the chat template of the model cannot be compiled") from None
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

    @classmethod
    def load(cls, path: Path, tokenizer: Tokenizer) -> ChatTemplate | None:
        """Read a model folder; None when it has no template. Raises ModelRefused when it has a broken one."""
        source = _read_source(path)
        return None if source is None else cls(source, tokenizer.bos_token, tokenizer.eos_token)

    def render(self, messages: Sequence[Message], image_token: str | None) -> tuple[Part, ...]:
        """Return the prompt as texts and the messages' pictures, in order.

        `image_token` is what the template writes for a picture; None for a text model, whose template gets plain
        strings. The same characters in a user's text stay text. Raises TemplateError.
        """
        seal = _Seal(image_token)
        as_list = image_token is not None
        rendered = self._run([_to_argument(message, seal, as_list) for message in messages], seal)
        texts = rendered.split(image_token) if image_token else [rendered]
        pictures = [
            part for message in messages for part in message.parts if isinstance(part, ImagePart | ImageUrlPart)
        ]
        if len(texts) != len(pictures) + 1:
            raise TemplateError(
                f"the messages hold {len(pictures)} pictures and the model's chat template places {len(texts) - 1}; "
                "put pictures into messages of the user"
            )
        parts: list[Part] = []
        for index, text in enumerate(texts):
            if text:
                parts.append(TextPart(seal.remove(text)))
            if index < len(pictures):
                parts.append(pictures[index])
        return tuple(parts)

    def _run(self, messages: list[dict[str, Any]], seal: _Seal) -> str:
        def raise_exception(message: object = "") -> NoReturn:
            raise TemplateError(f"the model's chat template says: {seal.remove(str(message))[:_REASON_LIMIT]}")

        chunks: list[str] = []
        length = 0
        try:
            for chunk in self._template.generate(
                messages=messages, add_generation_prompt=True, raise_exception=raise_exception, **self._tokens
            ):
                chunks.append(chunk)
                length += len(chunk)
                if length > RENDERED_LIMIT:
                    raise TemplateError(
                        f"the model's chat template writes more than {RENDERED_LIMIT} characters; send less text"
                    )
        except TemplateError:
            raise
        except Exception:  # a template is a program and may fail in any way
            raise TemplateError(
                "the model's chat template fails on these messages; check their roles, order and contents against "
                "what the model expects"
            ) from None
        return "".join(chunks)


class _Seal:
    """Breaks up image tokens in a user's text, so that after rendering only the template's own are left.

    A random string is put inside each one and after a beginning of one at the end of a text, which the template might
    join with the next; it is taken out of the rendered texts.
    """

    def __init__(self, image_token: str | None) -> None:
        self._token = image_token or ""
        self._string = secrets.token_hex(16)

    def put(self, text: str) -> str:
        token = self._token
        if not token:
            return text
        sealed = text.replace(token, token[0] + self._string + token[1:])
        begins = any(text.endswith(token[:length]) for length in range(1, len(token)))
        return sealed + self._string if begins else sealed

    def remove(self, text: str) -> str:
        return text.replace(self._string, "")


class _Generation(Extension):
    """`{% generation %}`: marks the model's turns for training; here its body is simply rendered."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_argument(message: Message, seal: _Seal, as_list: bool) -> dict[str, Any]:
    """Return a message in the form templates expect: a list of contents for a vision model, else one string."""
    contents: list[dict[str, str]] = []
    for part in message.parts:
        if isinstance(part, TokensPart):
            raise InvalidRequest("a message holds token ids; messages hold texts and pictures, send ids as a prompt")
        contents.append(
            {"type": "text", "text": seal.put(part.text)} if isinstance(part, TextPart) else {"type": "image"}
        )
    content = contents if as_list else "".join(entry.get("text", "") for entry in contents)
    return {"role": seal.put(message.role), "content": content}


def _to_json(value: object, indent: int | None = None) -> str:
    """Like Hugging Face's: without jinja's escapes for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _read_source(folder: Path) -> str | None:
    source = read_text(folder, "chat_template.jinja")
    if source is not None:
        return source
    for name in ("chat_template.json", "tokenizer_config.json", "processor_config.json"):
        source = _default_template(read_json(folder, name).get("chat_template"))
        if source is not None:
            return source
    return None


def _default_template(entry: Any) -> str | None:
    """Return the template of a config entry: a string, or a list of named ones with a `default`."""
    if isinstance(entry, list):
        named = {item.get("name"): item.get("template") for item in entry if isinstance(item, Mapping)}
        entry = named.get("default")
    return entry if isinstance(entry, str) else None
