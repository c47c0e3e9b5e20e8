"""Bounds on the form of a JSON body, checked before anything is built from it.

A body of 16 MB may hold millions of empty lists, each of which takes many times its two bytes once it is parsed, or
nest deeper than parsers can follow. The check costs a few passes over the bytes and builds no value.
"""

from __future__ import annotations

import json
import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.http.error_bodies import error_answer
from runtime.http.errors import MalformedBody

DEPTH: Final = 160
"""A grammar may be a schema of 128 levels, some levels down in the body."""
VALUES: Final = 2**18
NUMBER_CHARACTERS: Final = 400
"""The largest float, written out, has 309 digits."""
_TOO_MANY: Final = f"the body holds more than {VALUES} values; send fewer"
_NOT_NESTING: Final = bytes(set(range(256)) - set(b"[]{}"))
_NO_NUMBER: Final = re.compile(rb"NaN|Infinity")
_NUMBERS: Final = bytes(ord("0") if chr(byte) in "0123456789.eE+-" else ord(" ") for byte in range(256))
"""A table that leaves nothing of a text but where its numbers are."""


class JsonLimit:
    """Refuses a body of a form that no request needs with 400."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        pieces: list[bytes] = []

        async def checked() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                pieces.append(message.get("body", b""))
                if not message.get("more_body", False):
                    check_form(b"".join(pieces))
                    pieces.clear()
            return message

        try:
            await self._app(scope, checked, send)
        except Malformed as malformed:  # the routes read the whole body before they answer
            await error_answer(malformed.error, scope)(scope, receive, send)


class Malformed(BaseException):
    """Passes the framework's handlers, which would call every Exception an unreadable body."""

    def __init__(self, error: MalformedBody) -> None:
        super().__init__(error.message)
        self.error = error


def check_form(body: bytes) -> None:
    """Raise Malformed for what nests too deeply, holds too many values or a number that is none.

    What is no JSON passes where it is harmless: the parser words that better.
    """
    if json.detect_encoding(body) not in ("utf-8", "utf-8-sig"):  # the parser would take others, RFC 8259 does not
        raise Malformed(MalformedBody("the body is not valid JSON: it is not UTF-8"))
    # Without escapes, every second piece between quotation marks is the inside of a string.
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body
    if plain.count(b'"') > 4 * VALUES:
        raise Malformed(MalformedBody(_TOO_MANY))
    outside = b'"'.join(plain.split(b'"')[::2])
    if outside.count(b",") + outside.count(b"[") + outside.count(b"{") >= VALUES:
        raise Malformed(MalformedBody(_TOO_MANY))
    if _nests_deeply(outside.translate(None, _NOT_NESTING)):
        raise Malformed(MalformedBody(f"the body nests deeper than {DEPTH} levels; flatten it"))
    if _NO_NUMBER.search(outside):
        raise Malformed(MalformedBody("the body is not valid JSON: NaN and Infinity are no numbers"))
    if b"0" * (NUMBER_CHARACTERS + 1) in outside.translate(_NUMBERS):  # linear, which a regular expression is not
        raise Malformed(MalformedBody(f"a number of the body has more than {NUMBER_CHARACTERS} characters; shorten it"))


def _nests_deeply(brackets: bytes) -> bool:
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > DEPTH or depth < 0:  # what closes what was never opened is for the parser to refuse
            return depth > 0
    return False
