"""A process that has used transformers before. Run in a process of its own."""

from __future__ import annotations

import pytest
from runtime.errors import BackendRefused
from runtime_cpu_reference.backend import CpuReference
from support.optimum import LIMITS, MODEL, net


def test_no_mixture_of_classes_is_loaded() -> None:
    """transformers hands out the classes it has handed out before, so half of the network would not be theirs."""
    CpuReference(MODEL, LIMITS)
    with pytest.raises(BackendRefused, match=r"not optimum-habana's: .* in a process of its own"):
        net()
