"""Commands that serve set up the log of the whole process; this undoes it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

NOISY = ("httpx", "uvicorn.error")


@contextmanager
def logging_restored() -> Iterator[None]:
    """Hide the handlers there are, and bring them back with the levels and the environment at the end."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    levels = {name: logging.getLogger(name).level for name in (None, *NOISY)}
    try:
        with mock.patch.dict(os.environ):
            os.environ.pop("GRPC_VERBOSITY", None)
            yield
    finally:
        root.handlers = handlers
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
