"""What decoding pictures in processes of their own costs: `python -m benchmarks.intake`.

Milliseconds from encoded bytes to cut tiles, in this process and through a decoder process, for photos of some sizes
with LLaVA-1.6's geometry. The two ways take turns, one picture at a time; medians.
"""

from __future__ import annotations

import asyncio
import io
import time
from statistics import median
from typing import Final

from PIL import Image
from runtime.intake.cut import cut_picture
from runtime.intake.decoders import Decoders
from runtime.intake.limits import IntakeLimits
from runtime.intake.tiles import Cutting

LLAVA: Final = Cutting(336, 14, ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)), resample=3)
"""Of llava-v1.6-mistral-7b."""
LIMITS: Final = IntakeLimits()
CASES: Final = (("JPEG", 336, 336), ("JPEG", 1024, 768), ("PNG", 1024, 768), ("WEBP", 1920, 1080), ("JPEG", 4032, 3024))
ROUNDS: Final = 30


def photo(kind: str, width: int, height: int) -> bytes:
    """Encode soft noise, which compresses about as a photo does."""
    small = [Image.effect_noise((width // 4, height // 4), 60 + channel) for channel in range(3)]
    buffer = io.BytesIO()
    Image.merge("RGB", small).resize((width, height), Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


async def main() -> None:
    """Print a line for each case."""
    decoders = Decoders(1, LIMITS, LLAVA)
    decoders.start()
    print("| picture | kB | here, ms | in a process, ms | ratio |\n| --- | --: | --: | --: | --: |")
    for kind, width, height in CASES:
        data = photo(kind, width, height)
        here, apart = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            cut_picture(data, 0, LIMITS, LLAVA)
            between = time.perf_counter()
            await decoders.cut(lambda data=data: data, 0)  # type: ignore[misc]
            here.append(between - began)
            apart.append(time.perf_counter() - between)
        first, second = median(here) * 1e3, median(apart) * 1e3
        print(
            f"| {kind} {width} x {height} | {len(data) // 1000} | {first:.1f} | {second:.1f} | {second / first:.2f} |"
        )
    decoders.close()


if __name__ == "__main__":
    asyncio.run(main())
