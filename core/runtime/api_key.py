"""The key that clients must show, in every protocol. Imports nothing of ours."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

HOW_TO_SHOW_IT: Final = "send the API key as `Authorization: Bearer KEY`"


class Key:
    """Compares in a time that tells nothing of the key."""

    def __init__(self, key: str) -> None:
        self._wanted = f"Bearer {key}".encode()

    def is_shown(self, given: Sequence[bytes]) -> bool:
        """Whether the values of `Authorization` are one, and that is right; nobody knows which of two is meant."""
        return len(given) == 1 and hmac.compare_digest(given[0], self._wanted)
