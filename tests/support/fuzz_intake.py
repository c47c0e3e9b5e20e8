"""What is fuzzed of the picture intake: functions of bytes that fail when what comes of them is wrong."""

from __future__ import annotations

import io
import ipaddress
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote, urljoin, urlsplit

import httpx
from PIL import Image
from runtime.errors import ImageRefused
from runtime.geometry import tile_count
from runtime.intake.child import Task
from runtime.intake.decode import decode_picture
from runtime.intake.frames import READY
from runtime.intake.header import read_header
from runtime.intake.limits import IntakeLimits
from runtime.intake.process import DecoderFailed, DecoderProcess
from runtime.intake.source import picture_bytes
from runtime.intake.tiles import Cutting
from runtime.intake.trouble import Refused
from runtime.intake.url import LONGEST, PictureUrl, read_url
from runtime.runtime import ImageUrlPart

LIMITS = IntakeLimits(max_bytes=100_000, max_pixels=40_000)
TASK = Task(LIMITS, Cutting(tile=8, patch=4, pinpoints=((8, 16), (16, 8), (16, 16)), resample=3), cpu_seconds=10)


def url(data: bytes) -> None:
    """Where an address is taken, everybody else reads the same host and port in it, or refuses it."""
    text = data.decode(errors="surrogateescape")
    with suppress(Refused):
        _check_url(text, read_url(text))


def redirect(data: bytes) -> None:
    """The same of where an address leads: one address, and behind a new line the place that the host told."""
    base, _, location = data.decode(errors="surrogateescape").partition("\n")
    try:
        read = read_url(base).follow(location)
    except Refused:
        return
    try:
        told = urljoin(base, location)
    except ValueError:  # others refuse it
        return
    _check_url(told, read)


def _check_url(text: str, read: PictureUrl) -> None:
    assert re.fullmatch(r"[!-~]+", read.target)
    usual = f"{read.scheme}://{read.authority}{read.target}"
    assert len(usual) > LONGEST or read_url(usual) == read
    if read.ip is None:
        assert re.fullmatch(r"[a-z0-9_.-]+", read.host)
        assert not _is_number(read.host)
    ours = (read.scheme, read.host, read.port)
    for parse in (_by_urllib, _by_httpx, _by_browsers):
        try:
            theirs = parse(text)
        except (ValueError, httpx.InvalidURL):
            continue
        assert theirs == ours, parse.__name__


def _is_number(host: str) -> bool:
    """Tell whether the system's name service takes a name for an address."""
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


def _by_urllib(text: str) -> tuple[str, str, int]:
    parts = urlsplit(text)
    return parts.scheme, _plain(parts.hostname or ""), parts.port or _default(parts.scheme)


def _by_httpx(text: str) -> tuple[str, str, int]:
    parts = httpx.URL(text)
    return parts.scheme, _plain(parts.host), parts.port or _default(parts.scheme)


def _by_browsers(text: str) -> tuple[str, str, int]:
    """Read it as https://url.spec.whatwg.org/ has it, as far as that differs from the others."""
    text = re.sub(r"[\t\n\r]", "", text.strip("".join(map(chr, range(33))))).replace("\\", "/")
    scheme, _, rest = text.partition(":")
    authority = re.split(r"[/?#]", rest.lstrip("/"), maxsplit=1)[0].rpartition("@")[2]
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::([0-9]*))?", authority)
    if found is None:
        raise ValueError("no host")
    return scheme.lower(), _plain(unquote(found[1]).strip("[]")), int(found[2] or _default(scheme.lower()))


def _plain(host: str) -> str:
    with suppress(ValueError):
        return str(ipaddress.ip_address(host))
    return host.lower()


def _default(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def data_uri(data: bytes) -> None:
    """Bytes, or a refusal."""
    with _refusing(5):
        picture_bytes(ImageUrlPart(data.decode(errors="replace")), 5, LIMITS)


def header(data: bytes) -> None:
    """What the image library opens has the size that was told of it before."""
    told = read_header(data)
    if told is None or told.height * told.width > LIMITS.max_pixels:
        return
    try:
        with Image.open(io.BytesIO(data), formats=[told.kind]) as opened:
            size = opened.height, opened.width
    except Exception:  # whatever an image library does with hostile bytes
        return
    assert size == (told.height, told.width)


def picture(data: bytes) -> None:
    """A picture within the limits, or a refusal."""
    with _refusing(5):
        image = decode_picture(data, 5, LIMITS).image
        assert image.mode == "RGB"
        assert min(image.size) >= LIMITS.min_side
        assert image.width * image.height <= LIMITS.max_pixels


def answer(data: bytes) -> None:
    """Whatever a process says that decodes pictures: tiles that fit together, a refusal, or it is given up."""
    process = _Scripted(data)
    try:
        with suppress(DecoderFailed), _refusing(6):
            cut = process.cut(b"picture", 6, 30)
            assert cut.tiles.shape == (tile_count(cut.size, TASK.cutting), 3, TASK.cutting.tile, TASK.cutting.tile)
            assert len(cut.digest) == 32
    finally:
        process.close()


class _Scripted(DecoderProcess):
    """Has said all that it ever says."""

    def __init__(self, said: bytes) -> None:
        self._task = TASK
        self._ready = False
        self._connection, self._theirs = socket.socketpair()
        self._theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        self._theirs.setblocking(False)  # an input that does not fit is none for this target
        with suppress(BlockingIOError):
            self._theirs.sendall(READY + said)
        self._theirs.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._connection.close()
        self._theirs.close()


@contextmanager
def _refusing(index: int) -> Iterator[None]:
    """A refusal ends the block; it is one line that names the picture."""
    told = f"picture {index}: "
    try:
        yield
    except ImageRefused as refusal:
        told = refusal.message
    assert re.fullmatch(rf"picture {index}: [^\x00-\x1f\x7f]*", told)
