"""The receipt of a reply, as every wire format has it."""

from __future__ import annotations

from typing import Any

from runtime.runtime import Completion


def receipt_field(completion: Completion | None) -> dict[str, Any]:
    """Return the field for the end of a reply; none before it, or where no receipt was asked for."""
    return {} if completion is None or completion.receipt is None else {"receipt": completion.receipt.facts()}
