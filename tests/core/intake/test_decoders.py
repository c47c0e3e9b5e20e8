"""The processes that decode pictures: what becomes of them, and of pictures when they fail."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from runtime.errors import ImageRefused, RuntimeServiceError
from runtime.intake import process as process_module
from runtime.intake.child import NICENESS, Task
from runtime.intake.cut import CutPicture, cut_picture
from runtime.intake.decoders import Decoders, DecodeTimes
from runtime.intake.frames import ANSWER, ASK, CUT, READY, REFUSED, receive
from runtime.intake.limits import IntakeLimits
from runtime.intake.process import DecoderFailed, DecoderProcess
from runtime.prompt.tiles import cutting_of
from support.geometries import DEMO_IMAGES

pytestmark = pytest.mark.anyio

CUTTING = cutting_of(DEMO_IMAGES)
TASK = Task(IntakeLimits(max_pixels=1_000_000), CUTTING, 10)
SLOW = DecodeTimes(wall=120, patience=120)


def png(width: int = 60, height: int = 40) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 50).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def running(size: int, times: DecodeTimes = SLOW) -> Iterator[Decoders]:
    decoders = Decoders(size, TASK.limits, CUTTING, times)
    decoders.start()
    try:
        yield decoders
    finally:
        for pid in decoders.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        decoders.close()


async def test_equal_to_this_process() -> None:
    """Tiles, size and digest, for pictures together; the time of each stage is told."""
    sizes = [(60, 40), (41, 113), (300, 20), (5, 5)] * 2
    with running(2) as decoders:
        pictures = await asyncio.gather(
            *(decoders.cut(lambda size=size: png(*size), 0) for size in sizes)  # type: ignore[misc]
        )
    for size, picture in zip(sizes, pictures, strict=True):
        assert picture.size == size[::-1]
        assert set(picture.seconds) == {"fetch", "decode", "tile"}
    data = png(90, 70)
    with running(1) as decoders:
        theirs, ours = await decoders.cut(lambda: data, 0), cut_picture(data, 0, TASK.limits, CUTTING)
    assert (theirs.tiles == ours.tiles).all()
    assert (theirs.size, theirs.digest) == (ours.size, ours.digest)


async def test_refusals_are_those_of_this_process() -> None:
    """Also those of the loader, which runs here."""
    with running(1) as decoders:
        with pytest.raises(ImageRefused, match="picture 3: it is not a PNG"):
            await decoders.cut(lambda: b"text", 3)
        before = decoders.pids

        def load() -> bytes:
            raise ImageRefused("picture 4: no base64")

        with pytest.raises(ImageRefused, match="picture 4: no base64"):
            await decoders.cut(load, 4)
        assert decoders.pids == before


async def test_a_process_that_hangs_costs_one_picture() -> None:
    """It is killed in time, and a new one takes the next picture."""
    with running(1, DecodeTimes(wall=0.3, patience=0.1)) as decoders:
        await started(decoders)
        before = decoders.pids
        stop(before)
        with pytest.raises(ImageRefused, match=r"picture 1: .*longer than 0.3 s"):
            await decoders.cut(png, 1)
        assert decoders.pids.isdisjoint(before)
        await started(decoders)


async def started(decoders: Decoders) -> None:
    """Decode until one goes well: a busy machine may be slower than the short times of these tests."""
    for _ in range(100):
        with suppress(ImageRefused):
            await decoders.cut(png, 0)
            return
    raise AssertionError


async def begun(decoders: Decoders) -> asyncio.Future[CutPicture]:
    """A picture that has got to a thread."""
    loaded = threading.Event()

    def load() -> bytes:
        loaded.set()
        return png()

    picture = asyncio.ensure_future(decoders.cut(load, 1))
    assert await asyncio.to_thread(loaded.wait, 30)
    return picture


def stop(pids: frozenset[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


async def test_a_process_that_hangs_keeps_nobody_waiting() -> None:
    """A spare one decodes the other pictures meanwhile."""
    with running(1, DecodeTimes(wall=30, patience=0.1)) as decoders:
        await decoders.cut(png, 0)
        held = decoders.pids
        stop(held)
        hanging = await begun(decoders)
        assert (await decoders.cut(png, 2)).size == (40, 60)
        assert not hanging.done()
        assert len(decoders.pids) == 2
        os.kill(*held, signal.SIGCONT)
        assert (await hanging).size == (40, 60)
        assert len(await asyncio.gather(*(decoders.cut(png, index) for index in range(4)))) == 4
        assert len(decoders.pids) == 2


async def test_killed_while_it_decodes() -> None:
    """By the kernel, as when memory runs out: the picture is refused, the next one is not."""
    with running(1) as decoders:
        await decoders.cut(png, 0)
        before = decoders.pids
        stop(before)
        hanging = await begun(decoders)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        with suppress(ImageRefused):  # unless it was found dead before the picture went there
            await hanging
        assert (await decoders.cut(png, 2)).size == (40, 60)
        assert decoders.pids.isdisjoint(before)


async def test_killed_while_it_is_idle() -> None:
    """No picture pays for it."""
    with running(1) as decoders:
        await decoders.cut(png, 0)
        (pid,) = decoders.pids
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert (await decoders.cut(png, 1)).size == (40, 60)


async def test_close_ends_pictures_too() -> None:
    """Whoever waits is told, and no process is left."""
    decoders = Decoders(1, TASK.limits, CUTTING, SLOW)
    decoders.start()
    await decoders.cut(png, 0)
    held = decoders.pids
    stop(held)
    hanging = await begun(decoders)
    await asyncio.to_thread(decoders.close)
    with suppress(ImageRefused):  # unless it found the process dead and started one of its own, which is closed too
        await hanging
    assert decoders.pids == frozenset()
    for pid in held:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_decoding_waits_for_the_server() -> None:
    """Less urgent, and in its session: Linux shares cores among sessions first, and only within one by urgency."""
    with running(1) as decoders:
        await decoders.cut(png, 0)
        (pid,) = decoders.pids
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        assert os.getsid(pid) == os.getsid(0)
        assert os.getpgid(pid) == pid  # which a terminal's Ctrl-C does not reach


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="limits are read in /proc")
async def test_what_a_process_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded memory, no files, none of the server's secrets, and no PyTorch."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    with running(1) as decoders:
        await decoders.cut(png, 0)
        (pid,) = decoders.pids
        home = Path(f"/proc/{pid}")
        limits = dict(line.split("  ", 1) for line in (home / "limits").read_text().splitlines())
        environment, maps = (home / "environ").read_text(), (home / "maps").read_text()
    assert int(limits["Max address space"].split()[0]) < 2**30
    assert limits["Max file size"].split()[:2] == ["0", "0"]
    assert "secret" not in environment
    assert "libtorch" not in maps


class Impostor(DecoderProcess):
    """A process taken over by its picture, which answers what the test says."""

    def __init__(self, answer: bytes) -> None:
        self._task = TASK
        self._ready = False
        self._connection, theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._respond, args=(theirs, READY + answer))
        self._thread.start()

    def _respond(self, connection: socket.socket, answer: bytes) -> None:
        with connection:
            connection.sendall(answer[:1])
            _index, length = ASK.unpack(receive(connection, ASK.size))
            receive(connection, length)
            with suppress(OSError):
                connection.sendall(answer[1:])

    def close(self) -> None:
        self._connection.close()
        self._thread.join()


def answer(outcome: int, height: int, width: int, count: int, body: bytes, length: int | None = None) -> bytes:
    return ANSWER.pack(outcome, height, width, count, bytes(32), 1, 1, len(body) if length is None else length) + body


TILES = bytes(3 * 3 * 56 * 56)


@pytest.mark.parametrize(
    "lie",
    [
        b"",
        b"\x00" * 10,
        answer(7, 20, 20, 3, TILES),
        answer(CUT, 0, 0, 3, TILES),
        answer(CUT, 2**31, 2**31, 3, TILES),
        answer(CUT, 20, 20, 2, TILES),
        answer(CUT, 20, 20, 3, TILES[1:]),
        answer(CUT, 20, 20, 3, b"", length=2**63),
        answer(CUT, 20, 20, 2**32 - 1, b""),
        answer(REFUSED, 0, 0, 0, b"", length=2**40),
        answer(REFUSED, 0, 0, 0, b"picture 0: another's"),
        answer(REFUSED, 0, 0, 0, b"picture 6: \x1b[2J"),
        answer(REFUSED, 0, 0, 0, b"\xff\xfe"),
    ],
)
def test_answers_are_not_believed(lie: bytes) -> None:
    """Whatever does not fit together ends the process, and no length is taken on trust."""
    impostor = Impostor(lie)
    try:
        with pytest.raises(DecoderFailed):
            impostor.cut(b"picture", 6, 30)
    finally:
        impostor.close()


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_no_answer_breaks_it(lie: bytes) -> None:
    """Random answers end in the two errors there are."""
    impostor = Impostor(lie)
    try:
        with pytest.raises((DecoderFailed, ImageRefused)):
            impostor.cut(b"picture", 6, 30)
    finally:
        impostor.close()


def test_a_process_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the server's fault, and no picture's."""
    monkeypatch.setattr(process_module.sys, "executable", "/bin/false")
    failing = DecoderProcess(TASK)
    with pytest.raises(RuntimeServiceError, match="does not start") as caught:
        failing.cut(png(), 0, 30)
    failing.close()
    assert not isinstance(caught.value, ImageRefused)
    monkeypatch.setattr(process_module.sys, "executable", "/nowhere/python")
    with pytest.raises(RuntimeServiceError, match="does not start"):
        DecoderProcess(TASK)
