"""Measures what the machine can do, in a process whose threads are pinned: `python -m benchmarks.serving.machine`.

Reading is done in C where there is a compiler, else by PyTorch's reductions, which may be slower than the memory is.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F

from benchmarks.serving.children import answer

ARRAY_BYTES: Final = 512 * 2**20
"""Far more than the caches hold."""
SIDE: Final = 2048
"""Of the matrices."""
TIMES: Final = 12
SOURCE: Final = Path(__file__).with_name("read.c")


def main() -> None:
    """Measure whenever asked; the best of a few tries is what the machine can do."""
    numbers = torch.ones(ARRAY_BYTES // 4)
    x, weight = (torch.randn(SIDE, SIDE).to(torch.bfloat16) for _ in range(2))
    read, how = _reader(numbers)

    def measure(_question: Mapping[str, Any]) -> dict[str, Any]:
        with torch.inference_mode():
            return {
                "read": ARRAY_BYTES / _shortest(read),
                "multiply": 2 * SIDE**3 / _shortest(lambda: F.linear(x, weight)),
                "read_by": how,
                "torch": str(torch.__version__),
                "cpu": torch.backends.cpu.get_cpu_capability(),
            }

    answer(measure)


def _reader(numbers: torch.Tensor) -> tuple[Callable[[], object], str]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is not None:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "read.so"
            flags = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC"]
            built = subprocess.run([compiler, *flags, "-o", library, SOURCE], check=False)
            if built.returncode == 0:
                read_all = ctypes.CDLL(str(library)).read_all
                read_all.restype = ctypes.c_double
                return lambda: read_all(ctypes.c_void_p(numbers.data_ptr()), ctypes.c_long(len(numbers))), "C"
    return numbers.amax, "PyTorch"


def _shortest(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some calls."""
    shortest = float("inf")
    for _ in range(TIMES):
        started = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - started)
    return shortest


if __name__ == "__main__":
    main()
