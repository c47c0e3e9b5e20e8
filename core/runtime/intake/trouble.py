"""Why a picture was not fetched. The texts are for the user and say nothing of who answered, or from where."""

from __future__ import annotations

from typing import ClassVar


class Trouble(Exception):
    """Root; the message completes "picture 0: "."""

    outcome: ClassVar[str] = "refused"
    """Of the fetch, in the metrics."""


class NotEnabled(Trouble):
    """This server fetches nothing."""


class Refused(Trouble):
    """The address is not one that this server fetches from."""


class Unreachable(Trouble):
    """No picture came: no such host, no answer, an answer that is none."""

    outcome = "unreachable"


class TooSlow(Trouble):
    """It did not come in time."""

    outcome = "slow"


class TooLarge(Trouble):
    """It has more bytes than this server takes."""

    outcome = "large"
