"""Whether this machine can run the backend `cuda`: asked of a stand-in for the driver's library."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import Any

import pytest
import runtime_torch
import torch
from runtime.backend import BackendSpec
from runtime_torch.cuda_probe import availability
from runtime_torch.nvml import Driver, Gpu, first_visible, installed_driver

H100 = ("NVIDIA H100 80GB HBM3", "GPU-aaaa1111", 85_520_809_984, (9, 0))
T4 = ("Tesla T4", "GPU-bbbb2222", 16_106_127_360, (7, 5))


class Library:
    """NVML, as ctypes loads it."""

    def __init__(self, *cards: tuple[str, str, int, tuple[int, int]], cuda: int = 12080, fails: str = "") -> None:
        self.cards = cards
        self.cuda = cuda
        self.fails = fails
        self.open = 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        method = getattr(type(self), f"_{name}", None)
        if method is None:
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            if name == self.fails:
                return 999
            method(self, *(getattr(argument, "_obj", argument) for argument in arguments))
            return 0

        return call

    def _nvmlInit_v2(self) -> None:
        self.open += 1

    def _nvmlShutdown(self) -> None:
        self.open -= 1

    def _nvmlSystemGetDriverVersion(self, text: Any, size: Any) -> None:
        text.value = b"570.86.15"

    def _nvmlSystemGetCudaDriverVersion_v2(self, version: Any) -> None:
        version.value = self.cuda

    def _nvmlDeviceGetCount_v2(self, count: Any) -> None:
        count.value = len(self.cards)

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> None:
        handle.value = index.value + 1

    def _nvmlDeviceGetName(self, handle: Any, text: Any, size: Any) -> None:
        text.value = self.cards[handle.value - 1][0].encode()

    def _nvmlDeviceGetUUID(self, handle: Any, text: Any, size: Any) -> None:
        text.value = self.cards[handle.value - 1][1].encode()

    def _nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> None:
        memory.total = self.cards[handle.value - 1][2]

    def _nvmlDeviceGetCudaComputeCapability(self, handle: Any, major: Any, minor: Any) -> None:
        major.value, minor.value = self.cards[handle.value - 1][3]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Library]:
    """Makes a machine with these cards, and a PyTorch for this CUDA."""

    def make(*cards: Any, built_for: str | None = "12.8", **more: Any) -> Library:
        library = Library(*cards, **more)
        monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
        monkeypatch.setattr(torch.version, "cuda", built_for)
        return library

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return make


def spec() -> BackendSpec:
    (found,) = [spec for spec in runtime_torch.runtime_backends() if spec.name == "cuda"]
    return found


def test_a_card_is_told(machine: Callable[..., Library]) -> None:
    """With what an operator may wonder about; and the library is closed again."""
    library = machine(H100)
    found = spec().probe()
    assert found.ok
    assert found.reason == ""
    assert found.details == {
        "device": "NVIDIA H100 80GB HBM3",
        "memory": "79.6 GiB",
        "capability": "9.0",
        "driver": "570.86.15",
        "cuda": "12.8",
        "torch": torch.__version__,
    }
    assert library.open == 0


def test_it_must_be_asked_for() -> None:
    """It has not run on a card yet; every shape is planned."""
    assert spec().preference == 0
    assert spec().static_shapes


@pytest.mark.parametrize(
    ("cards", "settings", "reason"),
    [
        ([], {}, "no GPU is to be seen: the driver has 0"),
        ([T4], {}, r"Tesla T4 has compute capability 7.5, and bfloat16 needs 8.0 .*; use --backend cpu"),
        ([H100], {"built_for": None}, r"was built without CUDA: pip install .*torch --index-url .* up to 12.8"),
        ([H100], {"built_for": "13.0"}, r"the driver 570.86.15 runs CUDA up to 12.8, and PyTorch was built for 13.0"),
        ([H100], {"fails": "nvmlInit_v2"}, "no NVIDIA driver answers"),
        ([H100], {"fails": "nvmlDeviceGetMemoryInfo"}, "no NVIDIA driver answers"),
    ],
)
def test_what_is_missing_is_told_with_its_remedy(
    cards: list[Any], settings: dict[str, Any], reason: str, machine: Callable[..., Library]
) -> None:
    """Card, driver or PyTorch."""
    machine(*cards, **settings)
    found = availability()
    assert not found.ok
    assert re.search(reason, found.reason)


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is not there."""

    def load(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert installed_driver() is None
    assert "--gpus all" in availability().reason


def test_an_older_driver_without_a_function(machine: Callable[..., Library], monkeypatch: pytest.MonkeyPatch) -> None:
    """Is none that can be used."""
    machine(H100)
    monkeypatch.delattr(Library, "_nvmlSystemGetCudaDriverVersion_v2")
    assert installed_driver() is None


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        (None, "one"),
        ("0", "one"),
        ("1,0", "two"),
        (" 1 ", "two"),
        ("GPU-b", "two"),
        ("MIG-c", "one"),
        ("", None),
        ("-1", None),
        ("2", None),
        ("GPU-c", None),
    ],
)
def test_the_card_is_the_first_that_is_visible(visible: str | None, name: str | None) -> None:
    """By number or by the beginning of its UUID."""
    gpus = (Gpu("one", "GPU-a", 1, (9, 0)), Gpu("two", "GPU-b", 1, (9, 0)))
    found = first_visible(gpus, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert (found and found.name) == name


def test_a_process_that_is_to_see_none_is_told(
    machine: Callable[..., Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable that hides them."""
    machine(H100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert availability().reason == "no GPU is to be seen: the driver has 1, and CUDA_VISIBLE_DEVICES is '3'"


def test_the_probe_initialises_nothing(machine: Callable[..., Library]) -> None:
    """The gateway asks too, and would hold memory of the card."""
    machine(H100)
    assert spec().probe().ok
    assert not torch.cuda.is_initialized()


def test_the_driver_is_told_whole(machine: Callable[..., Library]) -> None:
    """Every card in the order of the bus."""
    machine(H100, T4, cuda=13010)
    assert installed_driver() == Driver("570.86.15", (13, 1), (Gpu(*H100), Gpu(*T4)))
