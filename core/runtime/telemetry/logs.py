"""Logs of both processes: one line each on standard output, in the layout of TGI's."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Final

SECONDS: Final = "%Y-%m-%dT%H:%M:%S"


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
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)


def set_up_logs(process: str, as_json: bool = False) -> None:
    """Log to standard output; `process` tells gateway and worker apart. Call before gRPC is imported."""
    formatter: logging.Formatter = _JsonFormatter(process)
    if not as_json:
        formatter = logging.Formatter(f"%(asctime)s.%(msecs)03dZ %(levelname)5s {process}: %(message)s", SECONDS)
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("httpx", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core would write to standard error what we tell ourselves
