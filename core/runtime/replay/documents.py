"""Finding a receipt in what a user has: the receipt, a whole reply, or a stream as it was written down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from runtime.errors import InvalidRequest
from runtime.receipt import Receipt

EVENT: Final = "data:"


def receipt_in(text: str) -> Receipt:
    """Return the receipt in a document; raises InvalidRequest where there is none, or it is not as it was written."""
    if text.lstrip().startswith(EVENT):
        events = [line.removeprefix(EVENT) for line in text.splitlines() if line.startswith(EVENT)]
        found = [event for event in map(_parsed_event, events) if _receipt(event) is not None]
        return _read(found[-1] if found else None)
    return _read(parsed(text, "RECEIPT"))


def parsed(text: str, name: str) -> Any:
    """Return what JSON says; raises InvalidRequest naming the document."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"{name} is no JSON") from None


def _parsed_event(text: str) -> Any:
    return None if text.strip() == "[DONE]" else parsed(text, "an event of RECEIPT")


def _read(document: Any) -> Receipt:
    receipt = _receipt(document)
    if receipt is None:
        raise InvalidRequest("there is no receipt in it; ask for one with `receipt: true`")
    return Receipt.of_facts(receipt)


def _receipt(document: Any) -> Any:
    """Return the receipt of a reply in TGI's or OpenAI's form, or the document when it is one."""
    if isinstance(document, list):  # TGI's route / answers a list of one
        document = document[0] if document else None
    if not isinstance(document, Mapping):
        return None
    if "format" in document:
        return document
    details = document.get("details")
    return (details if isinstance(details, Mapping) else document).get("receipt")
