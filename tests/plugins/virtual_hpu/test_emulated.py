"""The virtual HPU, each release and mode in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.virtual_hpu import PROFILES, Mode, Release, run_tests

EMULATED = Path(__file__).parent / "emulated"
EVERYWHERE = ("contract", "device", "fused_kernels", "modules")
BY_MODE = {"lazy": ("graphs", "graph_keys", "lists_of_operators"), "eager": ("compiling",)}


@pytest.mark.parametrize(("release", "mode"), PROFILES)
def test_profile(release: Release, mode: Mode) -> None:
    """The device, the kernels' maths and every signature; graphs in lazy mode, torch.compile in eager mode."""
    files = [EMULATED / f"{name}.py" for name in (*EVERYWHERE, *BY_MODE[mode])]
    run_tests(files, release, mode, PT_HPU_ENABLE_CACHE_METRICS="1")


@pytest.mark.parametrize("mode", ["lazy", "eager"])
def test_memory_and_faults(mode: Mode) -> None:
    """At the end the device is dead."""
    run_tests(EMULATED / "memory.py", "1.19", mode)


def test_stale_reads() -> None:
    """An output that is read after the next replay is counted, when asked for."""
    run_tests(EMULATED / "stale_reads.py", "1.19", "lazy", VIRTUAL_HPU_STALE_READS="1")


def test_keys_as_on_the_card() -> None:
    """Without the strict keys two calls do share one graph."""
    run_tests(EMULATED / "shared_keys.py", "1.19", "lazy", VIRTUAL_HPU_STRICT_KEYS="0")
