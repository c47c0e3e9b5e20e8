"""Logs of both processes: one line each on standard output, in the layout of TGI's."""

from __future__ import annotations

import logging
import os
import sys
import time


def set_up_logs(process: str) -> None:
    """Log to standard output; `process` tells gateway and worker apart. Call before gRPC is imported."""
    formatter = logging.Formatter(
        f"%(asctime)s.%(msecs)03dZ %(levelname)5s {process}: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("httpx", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core would write to standard error what we tell ourselves
