"""Tokens per second of HTTP streams through gateway and worker, with a backend that computes next to nothing.

    python benchmarks/streaming.py [--streams 64] [--tokens 600]

Starts `runtime serve` on the arithmetic backend of the tests and reads all streams at once. Prints the tokens per
second of one stream and of many, and their ratio: what the serving path costs, whatever the model.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

TESTS = Path(__file__).resolve().parents[1] / "tests"


@click.command()
@click.option("--streams", default=64, show_default=True, type=click.IntRange(1))
@click.option("--tokens", default=600, show_default=True, type=click.IntRange(1), help="Of each stream.")
def main(streams: int, tokens: int) -> None:
    """Measure and print."""
    sys.path.insert(0, str(TESTS))
    from support.plugin import install_plugin

    with tempfile.TemporaryDirectory() as folder:
        plugins = install_plugin(Path(folder), "arithmetic", "support.arithmetic")
        path = os.pathsep.join([str(plugins), str(TESTS)])
        command = [sys.executable, "-m", "runtime", "serve", "--backend", "arithmetic", "--model-id", "demo"]
        command += ["--hostname", "127.0.0.1", "--port", "0", "--max-batch-size", str(streams)]
        server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
        try:
            port = _port_when_ready(server)
            asyncio.run(_measured(port, 1, tokens))  # the first requests pay for imports
            one = asyncio.run(_measured(port, 1, tokens))
            many = asyncio.run(_measured(port, streams, tokens))
        finally:
            server.terminate()
            server.wait()
    print(f"1 stream     {one:8.0f} tokens/s")
    print(f"{streams} streams {many:10.0f} tokens/s, {many / one:.1f} times one stream")


def _port_when_ready(server: subprocess.Popen[str]) -> int:
    assert server.stdout is not None
    port = 0
    for line in server.stdout:
        if found := re.search(r"HTTP on http://.*:(\d+)", line):
            port = int(found[1])
        if "Connected" in line:
            return port
    raise SystemExit("the server did not start")


async def _measured(port: int, streams: int, tokens: int) -> float:
    started = time.perf_counter()
    counts = await asyncio.gather(*(_stream(port, tokens) for _ in range(streams)))
    return sum(counts) / (time.perf_counter() - started)


async def _stream(port: int, tokens: int) -> int:
    """Count the events of one stream, without a client library whose cost would be measured too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"inputs": "[INST] hello [/INST]", "parameters": {"max_new_tokens": tokens}}).encode()
    head = f"POST /generate_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode() + body)
    count = 0
    while data := await reader.read(2**16):
        count += data.count(b"data:")
    writer.close()
    return count


if __name__ == "__main__":
    main()
