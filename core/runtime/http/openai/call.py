"""Reading `{"name": ..., "arguments": {...}}` while it is written."""

from __future__ import annotations

import json
import re
from typing import Final

from runtime.http.openai.tools import NO_TOOL

_HEAD: Final = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"arguments"\s*:\s*(?=\{)')
_CONTENT_HEAD: Final = re.compile(r'\{\s*"content"\s*:\s*"')
# The grammar writes every character as itself that JSON allows, so no escape is half of a surrogate pair.
_CHARACTERS: Final = re.compile(r'(?:[^"\\]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*')


class CallReader:
    """Splits a call into the function's name and its arguments, and NO_TOOL's into plain text."""

    def __init__(self) -> None:
        self.name: str | None = None
        """The function, as soon as it is known."""
        self.complete = False
        """Whether the arguments came to their end."""
        self._unread = ""
        self._arguments = _ObjectText()
        self._content = _ContentText()

    @property
    def calls(self) -> bool:
        """Whether a function of the client is called."""
        return self.name is not None and self.name != NO_TOOL

    def push(self, text: str) -> str:
        """Take new text; return what it adds to the arguments, or to the plain text."""
        if self.name is None:
            self._unread += text
            head = _HEAD.match(self._unread)
            if head is None:
                return ""
            self.name, text = head[1], self._unread[head.end() :]
            self._unread = ""
        arguments = self._arguments.push(text)
        self.complete = self._arguments.complete
        return arguments if self.calls else self._content.push(arguments)

    def finish(self) -> str:
        """Return what was read and is no call, as plain text: a grammar was not followed, or ended in the name."""
        unread, self._unread = self._unread, ""
        return unread


class _ObjectText:
    """The text of a JSON object up to its closing brace."""

    def __init__(self) -> None:
        self.complete = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def push(self, text: str) -> str:
        if self.complete:
            return ""
        for index, character in enumerate(text):
            if self._in_string:
                self._in_string = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.complete = True
                    return text[: index + 1]
        return text


class _ContentText:
    """The characters of the string in `{"content": "..."}`."""

    def __init__(self) -> None:
        self._begun = False
        self._unread = ""

    def push(self, text: str) -> str:
        self._unread += text
        if not self._begun:
            head = _CONTENT_HEAD.match(self._unread)
            if head is None:
                return ""
            self._begun, self._unread = True, self._unread[head.end() :]
        whole = _CHARACTERS.match(self._unread)
        assert whole is not None  # the pattern matches the empty text
        self._unread = self._unread[whole.end() :]
        written: str = json.loads(f'"{whole[0]}"', strict=False)
        return written.encode("utf-8", "replace").decode()
