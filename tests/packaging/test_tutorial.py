"""docs/plugins.md, followed to the letter: every command run, every file written, every line of output seen."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.own_environment import own_environment

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text()
"""A backend from nothing to its proof; the rest of the page goes the same way once more."""
BLOCK = re.compile(r"(?P<above>[^\n]*)\n\n```(?P<language>\w+)\n(?P<body>.*?)```\n", re.DOTALL)
FILE = re.compile(r"`([\w/.-]+)`:")
MINUTES = 14


def blocks(page: str, language: str) -> Iterator[tuple[str, str]]:
    """The line above and the text of each block in this language."""
    yield from ((found["above"], found["body"]) for found in BLOCK.finditer(page) if found["language"] == language)


def script(page: str, port: int) -> str:
    """All commands in their order, and the files that are to be written between them."""
    parts = ["set -e"]
    for found in BLOCK.finditer(page):
        named = FILE.fullmatch(found["above"])
        if found["language"] == "sh":
            parts.append(found["body"])
        elif found["language"] == "python" and named is not None:
            parts.append(f"cat > {named[1]} <<'END OF FILE'\n{found['body']}END OF FILE")
    return "\n".join(parts).replace("3000", str(port))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.timeout(60 * (MINUTES + 1))
@pytest.mark.long
def test_commands_do_what_the_page_shows(tmp_path: Path) -> None:
    """In an environment of its own and an empty folder, offline; columns may be as wide as they like."""
    environment = own_environment(tmp_path / "environment")
    work = tmp_path / "work"
    work.mkdir()
    shutil.copytree(ROOT / "examples", work / "examples")
    with (tmp_path / "output").open("w") as output:
        shell = subprocess.Popen(
            ["bash", "-c", script(PAGE, free_port())],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = shell.wait(MINUTES * 60)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
    told = (tmp_path / "output").read_text()
    assert status == 0, told
    lines = iter(" ".join(line.split()) for line in told.splitlines())
    for _, body in blocks(PAGE, "text"):
        for wanted in body.splitlines():
            assert any(wanted in line for line in lines), f"{wanted!r} is missing, or out of order, in:\n{told}"


def test_code_of_the_examples_is_theirs() -> None:
    """Each excerpt stands in the file that the line above names, there indented."""
    excerpts = [(FILE.search(above), body) for above, body in blocks(PAGE, "python") if not FILE.fullmatch(above)]
    assert len(excerpts) == 3
    for named, body in excerpts:
        assert named is not None
        assert _unindented(body) in _unindented((ROOT / named[1]).read_text()), named[1]


def _unindented(code: str) -> str:
    return "\n".join(stripped for line in code.splitlines() if (stripped := line.strip()))
