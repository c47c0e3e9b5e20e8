"""What the device takes, refuses and reads back, told by data about operators."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Final

import torch
from torch._ops import OpOverload

aten = torch.ops.aten


def _has_kernel(operator: OpOverload, key: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), key)  # type: ignore[no-untyped-call]


OPERATORS: Final = frozenset(
    line for line in (Path(__file__).parent / "operators.txt").read_text().splitlines() if not line.startswith("#")
)
"""Base names of the operators that have a kernel on the device."""

NEWER: Final = frozenset({"_fused_rms_norm", "_safe_softmax"})
"""Operators that torch 2.13 makes of what was a composition of `OPERATORS` in the vendor's torch."""

METADATA: Final = frozenset(
    {"is_same_size", "_has_compatible_shallow_copy_type", "_fused_sdp_choice", "is_pinned", "result_type", "is_set_to"}
)
"""They answer a Python value without looking at the data."""

NOT_VIEWS: Final = frozenset(
    {aten.detach.default, aten.alias.default, aten.lift_fresh.default, aten._unsafe_view.default}
)
"""Their results share memory, but are no views to the code that called."""

INDEXING: Final = frozenset(
    {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
)
"""With a boolean index their work depends on values."""

REPLACING: Final = frozenset({aten.set_.source_Tensor, aten.set_.source_Storage, aten.set_.default})
"""They would give a tensor other memory."""

_PYTHON_VALUES: Final = frozenset({"bool", "int", "float", "number", "Scalar"})


def name_of(operator: OpOverload) -> str:
    """The base name, without the library when that is ATen."""
    return str(operator._schema.name).removeprefix("aten::")


@functools.cache
def host_read_of(operator: OpOverload) -> str | None:
    """Name of the read by the host that an operator implies, if any.

    It answers a Python value, or the shape of its result depends on values.
    """
    name = name_of(operator)
    if name == "_local_scalar_dense":
        return "item"
    answers_value = any(str(result.type) in _PYTHON_VALUES for result in operator._schema.returns)
    dynamic = torch.Tag.dynamic_output_shape in operator.tags and operator is not aten.index.Tensor
    return name if (answers_value and name not in METADATA) or dynamic else None


@functools.cache
def is_composite(operator: OpOverload) -> bool:
    """Whether an operator is only a composition of others."""
    return _has_kernel(operator, "CompositeImplicitAutograd") and not _has_kernel(operator, "CPU")


@functools.cache
def has_kernel(operator: OpOverload) -> bool:
    """Whether the device runs it, itself or as a composition of others; else it falls back to the CPU."""
    name = name_of(operator)
    return (
        name in OPERATORS
        or name in NEWER
        or name in METADATA
        or operator.namespace == "virtual_hpu"
        or _has_kernel(operator, "CompositeExplicitAutograd")
        or _has_kernel(operator, "CompositeImplicitAutograd")
    )


@functools.cache
def written(operator: OpOverload) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Which arguments an operator writes to: positions and keywords."""
    arguments = list(enumerate(operator._schema.arguments))
    writes = [(place, item) for place, item in arguments if item.alias_info is not None and item.alias_info.is_write]
    return (
        tuple(place for place, item in writes if not item.kwarg_only),
        tuple(item.name for _, item in writes if item.kwarg_only),
    )


def has_boolean_index(operator: OpOverload, arguments: list[Any]) -> bool:
    """Whether an indexing operator must count values first."""
    return operator in INDEXING and any(
        index is not None and index.dtype in (torch.bool, torch.uint8) for index in arguments[1]
    )
