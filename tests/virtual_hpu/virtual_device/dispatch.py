"""Running an operator of the device on the hidden tensors, by the rules of `virtual_device.rules`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from virtual_device import rules
from virtual_device.counters import NOW, call_site
from virtual_device.events import emit
from virtual_device.reads import READS
from virtual_device.recipes import RECIPES
from virtual_device.release import LAZY
from virtual_device.rules import aten, name_of
from virtual_device.state import STATE
from virtual_device.tape import address_of
from virtual_device.tensor import HpuTensor
from virtual_device.tracing import trace
from virtual_device.wide_integers import refuse_wide

CPU = torch.device("cpu")


def dispatch(operator: Any, arguments: Any, keywords: Any) -> Any:
    """Run an operator that has a tensor of the device among its arguments."""
    wrappers: list[HpuTensor] = []
    of_host: list[Tensor] = []
    hidden = [_unwrap(value, wrappers, of_host) for value in arguments]
    hidden_keywords = {key: _unwrap(value, wrappers, of_host) for key, value in keywords.items()}
    if wrappers and type(wrappers[0]._hidden) is not Tensor:
        return trace(operator, arguments, keywords)
    STATE.check()
    count_stale(wrappers)

    if operator is aten.copy_.default and of_host:
        return _copy_across(arguments, hidden)
    to_host = hidden_keywords.get("device") == CPU
    if to_host and operator is aten._to_copy.default:
        return _copy_out(operator, hidden, hidden_keywords)
    read = rules.host_read_of(operator)
    if read is None and rules.has_boolean_index(operator, hidden):
        read = f"{name_of(operator)} with a boolean index"
    if read is not None:
        STATE.host_read(read)
        if read == "item":
            return operator(*hidden)

    written = _written(operator, arguments, keywords)
    _refuse(operator, hidden_keywords, of_host, written)
    if not to_host and "device" in hidden_keywords:
        hidden_keywords["device"] = CPU
    if not rules.has_kernel(operator):
        _fall_back(name_of(operator))
    answer = operator(*hidden, **hidden_keywords)
    if to_host:  # x.new_zeros(..., device="cpu")
        return answer
    RECIPES.add(operator, [*hidden, *hidden_keywords.values()])

    fresh: list[HpuTensor] = []
    wrapped = _wrap(answer, operator, wrappers, written, fresh)
    for wrapper in written:
        if wrapper.shape != wrapper._hidden.shape or wrapper.stride() != wrapper._hidden.stride():
            _resize(wrapper)
    if LAZY:
        refuse_wide(fresh, operator)
    if STATE.tape is not None and (fresh or written):
        for new in fresh:
            STATE.tape.created(new._hidden, new._allocation)
        STATE.tape.record(operator, hidden, hidden_keywords, answer, [new._hidden for new in fresh])
    return wrapped


HpuTensor.dispatch = staticmethod(dispatch)


def upload(source: Tensor) -> None:
    """Count a copy from the host to the device."""
    STATE.refuse_in_capture("copy_: host-to-device copy")
    NOW.h2d_copies[call_site()] += 1
    NOW.h2d_bytes += source.numel() * source.element_size()


def _unwrap(value: Any, wrappers: list[HpuTensor], of_host: list[Tensor]) -> Any:
    if isinstance(value, HpuTensor):
        wrappers.append(value)
        return value._hidden
    if isinstance(value, Tensor):
        of_host.append(value)
        return value.clone() if STATE.tape is not None and not value.dim() else value  # a graph freezes numbers
    if isinstance(value, (list, tuple)):
        return type(value)([_unwrap(part, wrappers, of_host) for part in value])
    return value


def count_stale(wrappers: Sequence[HpuTensor]) -> None:
    """Count reads of a graph's output that a later run has overwritten."""
    for wrapper in wrappers:
        if wrapper._born is not None and wrapper._born[0].runs != wrapper._born[1]:
            NOW.stale_reads[call_site()] += 1


def _copy_across(arguments: Any, hidden: list[Any]) -> Any:
    """copy_ between host and device."""
    target, source, *flags = hidden
    if isinstance(arguments[0], HpuTensor):
        upload(source)
        target.copy_(source)
        if LAZY:
            refuse_wide([arguments[0]], "copy_")
    elif flags and flags[0]:
        STATE.host_read("copy_ to cpu")
        READS.start(target, source)
    else:
        STATE.host_read("copy_ to cpu")
        target.copy_(source)
    return arguments[0]


def _copy_out(operator: Any, hidden: list[Any], keywords: dict[str, Any]) -> Tensor:
    """x.cpu() and x.to("cpu")."""
    STATE.host_read("cpu")
    answer: Tensor = operator(*hidden, **keywords)
    if keywords.get("non_blocking"):
        READS.start(answer, answer)
    return answer


def _written(operator: Any, arguments: Any, keywords: Any) -> list[HpuTensor]:
    """The tensors an operator writes to."""
    places, names = rules.written(operator)
    targets = [arguments[place] for place in places if place < len(arguments)]
    targets += [keywords.get(name) for name in names]
    flat = [part for target in targets for part in (target if isinstance(target, (list, tuple)) else [target])]
    return [target for target in flat if target is not None]


def _refuse(operator: Any, keywords: dict[str, Any], of_host: list[Tensor], written: list[HpuTensor]) -> None:
    """Raise what the device raises."""
    name = name_of(operator)
    if operator in rules.REPLACING:
        raise NotImplementedError(f"{name} on an hpu tensor")
    for tensor in of_host:
        if tensor.dim() or any(target is tensor for target in written):  # numbers of no dimension pass
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, hpu:0 and "
                f"{tensor.device}! (in aten::{name}, {call_site()})"
            )
    refuse_double(keywords.get("dtype"), name)
    if STATE.tape is None:
        return
    if any(isinstance(value, torch.Generator) for value in keywords.values()):
        STATE.refuse_in_capture(f"{name} with a generator of the host")
    for target in written:
        if target._user_view:
            STATE.refuse_in_capture(f"{name}: in-place update through a view")
        STATE.tape.about_to_write(target._hidden)


def refuse_double(dtype: torch.dtype | None, name: str) -> None:
    """The device has no float64."""
    if dtype is torch.float64:
        raise RuntimeError(f"float64 is not supported on hpu (in aten::{name}, {call_site()})")


def _fall_back(name: str) -> None:
    NOW.cpu_fallbacks[name] += 1
    emit("cpu_fallback", op_name=f"aten::{name}")
    STATE.refuse_in_capture(f"{name}: cpu fallback")


def _wrap(
    answer: Any, operator: Any, wrappers: list[HpuTensor], written: list[HpuTensor], fresh: list[HpuTensor]
) -> Any:
    """Give an answer its wrappers: the same object for what was written to, the same allocation for a view.

    No closure, because one that calls itself is a reference cycle and would keep every tensor until it is collected.
    """
    if isinstance(answer, (list, tuple)):
        return type(answer)([_wrap(part, operator, wrappers, written, fresh) for part in answer])
    if not isinstance(answer, Tensor):
        return answer
    for target in written:
        if target._hidden is answer:
            return target
    place = address_of(answer)
    for source in wrappers:
        if place and address_of(source._hidden) == place:
            user_view = source._user_view or operator not in rules.NOT_VIEWS
            return HpuTensor(answer, source._allocation, user_view, source._born)
    new = HpuTensor(answer)
    fresh.append(new)
    return new


def _resize(wrapper: HpuTensor) -> None:
    """A kernel changed the size of the hidden tensor (`out=` on an empty one): give the wrapper the same."""
    hidden, before = wrapper._hidden, torch._C._meta_in_tls_dispatch_include()
    torch._C._set_meta_in_tls_dispatch_include(True)
    try:
        with torch._C._DisableTorchDispatch():
            aten.set_.source_Storage_storage_offset(
                wrapper, wrapper.untyped_storage(), hidden.storage_offset(), hidden.shape, hidden.stride()
            )
    finally:
        torch._C._set_meta_in_tls_dispatch_include(before)
