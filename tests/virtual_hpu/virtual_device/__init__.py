"""A strict emulation of the `hpu` device on stock torch, in Python only; for tests, and never packaged.

Facts about the vendor's bridge are taken from HabanaAI/gaudi-pytorch-bridge at commit 5a56187 (1.19.0) unless a
docstring names another source; `tests/conformance/habana/` records the signatures.
"""

from __future__ import annotations

import torch

TORCH = "2.13."
"""The device rests on underscored interfaces of torch that "might change without notice"."""

if not torch.__version__.startswith(TORCH):
    raise ImportError(f"the virtual HPU is made for torch {TORCH}x and this is torch {torch.__version__}")
