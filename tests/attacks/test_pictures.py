"""Pictures made to harm whoever decodes them: refused or decoded right, in bounded time and memory.

All go through one real decoder process, which must be the same at the end but for the cases said to kill it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from runtime.errors import ImageRefused
from runtime.intake.cut import CutPicture
from runtime.intake.decoders import Decoders, DecodeTimes
from runtime.prompt.tiles import cutting_of
from support.attack_pictures import LIMITS, REFUSED, ZEROS, endless_scans, plain, png, saved
from support.geometries import LLAVA_IMAGES

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    """One process."""
    made = Decoders(1, LIMITS, cutting_of(LLAVA_IMAGES), DecodeTimes(cpu=2, wall=60, patience=60))
    made.start()
    yield made
    made.close()


@pytest.mark.parametrize("case", REFUSED)
async def test_refused(case: str, decoders: Decoders) -> None:
    """In one line that names the picture, and the process lives on."""
    made, told = REFUSED[case]
    with pytest.raises(ImageRefused, match=told) as caught:
        await decode(made(), decoders)
    assert re.fullmatch(r"picture 5: [ -~]{10,250}", caught.value.message)


def with_exif(size: int, orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "x" * size
    if orientation is not None:
        exif[0x0112] = orientation
    return saved(plain(), "JPEG", exif=exif)


def text_heavy() -> bytes:
    info = PngInfo()
    for number in range(50):
        info.add_text(f"key{number}", "x" * 10_000, zip=True)
    return saved(plain(), "PNG", pnginfo=info)


FRAMES = [plain(mode=mode).convert("RGB") for mode in ("RGB", "1")] * 40

DECODED: dict[str, tuple[Callable[[], bytes], tuple[int, int]]] = {
    "png with more data than pixels": (lambda: png(40, 30, bytes(91 * 30) + ZEROS), (30, 40)),
    "png with a zip behind": (lambda: saved(plain(), "PNG") + b"PK\x03\x04" + bytes(1000), (30, 40)),
    "png with much text": (text_heavy, (30, 40)),
    "png of 16 bits": (lambda: png(40, 30, bytes(241 * 30), depth=16), (30, 40)),
    "png of 16 bits of grey": (lambda: saved(Image.new("I;16", (40, 30), 40000), "PNG"), (30, 40)),
    "png of one bit": (lambda: saved(plain(mode="1"), "PNG"), (30, 40)),
    "png with a palette and transparency": (lambda: saved(plain(mode="P"), "PNG", transparency=0), (30, 40)),
    "png with grey and alpha": (lambda: saved(plain(mode="LA"), "PNG"), (30, 40)),
    "png of many frames": (lambda: saved(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), (30, 40)),
    "jpeg with a page behind": (lambda: saved(plain(), "JPEG") + b"<script>" * 1000, (30, 40)),
    "jpeg of four inks": (lambda: saved(plain().convert("CMYK"), "JPEG"), (30, 40)),
    "jpeg in grey": (lambda: saved(plain(mode="L"), "JPEG"), (30, 40)),
    "jpeg in scans": (lambda: saved(plain(), "JPEG", progressive=True), (30, 40)),
    "jpeg with a huge exif": (lambda: with_exif(60_000), (30, 40)),
    "jpeg on its side": (lambda: with_exif(10, 6), (40, 30)),
    "jpeg with an orientation that is none": (lambda: with_exif(10, 60_000), (30, 40)),
    "jpeg with a broken exif": (lambda: saved(plain(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), (30, 40)),
    "jpeg of two pictures": (lambda: saved(plain(), "MPO", save_all=True, append_images=[plain()]), (30, 40)),
    "webp of many frames": (lambda: saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), (30, 40)),
    "gif of many frames": (lambda: saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), (30, 40)),
    "gif of the most pixels": (lambda: saved(Image.new("L", (2000, 1000)), "GIF"), (1000, 2000)),
    "webp of the most pixels": (lambda: saved(Image.new("RGBA", (1000, 2000)), "WEBP"), (2000, 1000)),
}


@pytest.mark.parametrize("case", DECODED)
async def test_decoded(case: str, decoders: Decoders) -> None:
    """Odd, and still pictures: the first frame, upright, of the size that the header says."""
    made, size = DECODED[case]
    assert (await decode(made(), decoders)).size == size


async def decode(data: bytes, decoders: Decoders) -> CutPicture:
    """In the process, which must survive it and never have held much more than the largest picture permitted."""
    before = decoders.pids
    try:
        return await decoders.cut(lambda: data, 5)
    finally:
        assert decoders.pids == before
        (pid,) = before
        assert peak(pid) < 300 * 2**20


def peak(pid: int) -> int:
    """The most memory that a process ever held, bytes."""
    status = Path(f"/proc/{pid}/status")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) * 1024 if status.exists() else 0


async def test_endless_scans(decoders: Decoders) -> None:
    """A small JPEG that decodes for minutes: the kernel ends it after 2 s of computing."""
    data = endless_scans(LIMITS.max_bytes)
    before = decoders.pids
    with pytest.raises(ImageRefused, match="more time or memory than this server gives"):
        await decoders.cut(lambda: data, 5)
    assert decoders.pids.isdisjoint(before)
    assert (await decoders.cut(lambda: saved(plain(), "PNG"), 5)).size == (30, 40)
