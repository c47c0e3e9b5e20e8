"""Logs of both processes: one line each on standard output, in the layout of TGI's.

A line may have facts beside its message: fields in JSON, `name=value` without spaces in text.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

SECONDS: Final = "%Y-%m-%dT%H:%M:%S"


def log_facts(log: logging.Logger, level: int, message: str, facts: Mapping[str, Any]) -> None:
    """Log a message with facts: numbers, names without spaces, or mappings of such."""
    log.log(level, message, extra={"facts": facts})


def _facts_of(record: logging.LogRecord) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = getattr(record, "facts", {})
    return facts


class _TextFormatter(logging.Formatter):
    """TGI's layout."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s.%(msecs)03dZ %(levelname)5s {process}: %(message)s", SECONDS)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Append the facts."""
        return " ".join([super().formatMessage(record), *(f"{k}={_written(v)}" for k, v in _facts_of(record).items())])


def _written(value: object) -> str:
    return ",".join(f"{k}:{v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)


class _JsonFormatter(logging.Formatter):
    """One JSON object a line, with the keys of TGI's."""

    def __init__(self, process: str) -> None:
        super().__init__(datefmt=SECONDS)
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "timestamp": f"{self.formatTime(record, self.datefmt)}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "message": record.getMessage(),
            "target": self._process,
            **_facts_of(record),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)


def set_up_logs(process: str, as_json: bool = False) -> None:
    """Log to standard output; `process` tells gateway and worker apart. Call before gRPC is imported."""
    formatter = _JsonFormatter(process) if as_json else _TextFormatter(process)
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.raiseExceptions = False  # where a line cannot be written, neither can its traceback
    for noisy in ("httpx", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core would write to standard error what we tell ourselves
