"""The program grpcurl, which learns of services by reflection."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.processes import Server

GRPCURL = shutil.which("grpcurl") or shutil.which("grpcurl", path=str(Path(sys.executable).parent))
SECONDS = 30


def grpcurl(server: Server, *words: str, **message: Any) -> subprocess.CompletedProcess[str]:
    """Run it; the message travels through standard input."""
    assert GRPCURL is not None
    *verb, symbol = words
    command = [GRPCURL, "-plaintext", "-d", "@", server.grpc, *verb, symbol]
    if verb or symbol == "list":
        command = [GRPCURL, "-plaintext", server.grpc, *words]
    return subprocess.run(
        command, input=json.dumps(message), capture_output=True, text=True, timeout=SECONDS, check=False
    )
