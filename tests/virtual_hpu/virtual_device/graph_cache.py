"""Modules whose calls are captured and replayed, one graph per key (vendor: hpu/graphs.py, wrapped_hpugraph_forward).

The key leaves out the dtype, and takes Python values by their hash: both are the vendor's, and both let two different
calls share one graph. VIRTUAL_HPU_STRICT_KEYS=0 lets that happen as on the card; else it raises.
"""

from __future__ import annotations

import collections
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch

from virtual_device.counters import NOW, call_site
from virtual_device.graph import HPUGraph
from virtual_device.mark_step import mark_step
from virtual_device.release import RELEASE
from virtual_device.streams import default_stream, stream
from virtual_device.tensor import HpuTensor

STRICT_KEYS: Final = os.environ.get("VIRTUAL_HPU_STRICT_KEYS", "1") != "0"
COUNTS_STALE_READS: Final = os.environ.get("VIRTUAL_HPU_STALE_READS") == "1"


@dataclass(slots=True)
class CachedParams:
    """A graph and the tensors that go with it."""

    graph_inputs: Any
    graph_outputs: Any
    graph: HPUGraph
    out_tinfo_list: Any = None
    asynchronous: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """How a module was wrapped."""

    asynchronous: bool
    disable_tensor_cache: bool
    dry_run: bool
    max_graphs: int | None


class GraphCache:
    """The graphs of one module or function."""

    def __init__(self, name: str, function: Callable[..., Any], options: Options) -> None:
        self._name = name
        self._function = function
        self._options = options
        self.graphs: dict[int, CachedParams] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Capture, replay or run plainly."""
        warmup = kwargs.pop("warmup_mode", False)
        if kwargs.pop("bypass_hpu_graphs", False):
            return self._bypass(args, kwargs)
        key, inputs = input_hash((args, kwargs)), (args, kwargs)
        kept = kwargs.pop("cache_tensors_list", [])
        without_cache = self._is_tensor_cache_disabled()
        cached = self.graphs.get(key)
        called = f"{self._name}({', '.join(in_clear(inputs))})"
        for tensor in tensors_of(inputs):
            if not isinstance(tensor, HpuTensor):
                raise RuntimeError(f"an input of an hpu graph is on {tensor.device}, not on hpu ({call_site()})")
        if cached is None:
            if self._options.max_graphs is not None and len(self.graphs) == self._options.max_graphs:
                return self._bypass(args, kwargs)
            cached = self.graphs[key] = self._capture(called, inputs, without_cache, tensors_of(kept))
            return _born(cached)
        if STRICT_KEYS and cached.graph.name != called:
            raise RuntimeError(f"two calls share one hpu graph: {cached.graph.name} and {called} ({call_site()})")
        if warmup:
            mark_step()
            return _born(cached)
        _replay(cached, inputs, without_cache)
        return _born(cached)

    def _bypass(self, args: Any, kwargs: Any) -> Any:
        NOW.bypasses[f"{self._name}({', '.join(in_clear((args, kwargs)))})"] += 1
        return self._function(*args, **kwargs)

    def _is_tensor_cache_disabled(self) -> bool:
        """The environment wins, and only "1" means yes there."""
        variable = os.environ.get("PT_HPUGRAPH_DISABLE_TENSOR_CACHE")
        return self._options.disable_tensor_cache if variable is None else variable == "1"

    def _capture(self, called: str, inputs: Any, without_cache: bool, kept: list[torch.Tensor]) -> CachedParams:
        dry_run = without_cache or self._options.dry_run
        with stream(default_stream()):
            graph = HPUGraph()
            graph.name = called
            graph.capture_begin(dry_run)
            try:
                if without_cache:
                    graph.mark_user_inputs(user_inputs(inputs))
                outputs = self._function(*inputs[0], **inputs[1])
            except BaseException:
                graph.abandon()
                raise
            graph.capture_end()
            cached = CachedParams(inputs, outputs, graph, None, self._options.asynchronous)
            if without_cache:
                graph.mark_user_outputs(kept + tensors_of(outputs))
                cached.graph_inputs = _unmatched(graph, inputs)
                graph.replayV3(user_inputs(inputs), cached.asynchronous)
            elif dry_run:
                graph.replay(cached.asynchronous)
        return cached


def _replay(cached: CachedParams, inputs: Any, without_cache: bool) -> None:
    if without_cache:
        _copy_to(cached.graph_inputs, _unmatched(cached.graph, inputs))
        cached.graph.replayV3(user_inputs(inputs), cached.asynchronous)
    else:
        _copy_to(cached.graph_inputs, inputs)
        cached.graph.replay(cached.asynchronous)


def _unmatched(graph: HPUGraph, inputs: Any) -> tuple[torch.Tensor, ...]:
    """The inputs that the graph did not recognise."""
    matched = set(graph.get_user_input_match_indices())
    return tuple(tensor for place, tensor in enumerate(user_inputs(inputs)) if place not in matched)


def _copy_to(targets: Any, sources: Any) -> None:
    """Overwrite the tensors of the first call, which are the caller's own."""
    assert type(targets) is type(sources), "containers of another type than at the first call"
    if isinstance(targets, dict):
        assert list(targets) == list(sources), "other keys than at the first call"
        targets, sources = list(targets.values()), list(sources.values())
    if isinstance(targets, torch.Tensor):
        if targets is not sources:
            targets.copy_(sources, non_blocking=True)
    elif isinstance(targets, (list, tuple)):
        for target, source in zip(targets, sources, strict=False):
            _copy_to(target, source)


def _born(cached: CachedParams) -> Any:
    """The same output objects each time; when stale reads are counted, aliases that know which run they are of."""
    return _aliases(cached.graph_outputs, cached.graph) if COUNTS_STALE_READS else cached.graph_outputs


def _aliases(outputs: Any, graph: HPUGraph) -> Any:
    if isinstance(outputs, HpuTensor):
        with torch._C._InferenceMode(False):  # else what is done with the alias is not dispatched
            return HpuTensor(outputs._hidden, outputs._allocation, outputs._user_view, (graph, graph.runs))
    if isinstance(outputs, dict):
        return type(outputs)({key: _aliases(value, graph) for key, value in outputs.items()})
    if isinstance(outputs, (list, tuple)):
        values = [_aliases(value, graph) for value in outputs]
        return type(outputs)(*values) if hasattr(outputs, "_fields") else type(outputs)(values)
    return outputs


def input_hash(obj: Any) -> int:
    """The vendor's key: tensors by shape and view, all else by hash; the order of keywords counts, dtypes do not."""
    autocast = torch.is_autocast_enabled("hpu")
    if isinstance(obj, dict):
        return input_hash(tuple(obj.items()))
    if isinstance(obj, list) or (isinstance(obj, tuple) and not isinstance(obj, torch.Size)):
        return hash((tuple(input_hash(part) for part in obj), autocast))
    if isinstance(obj, torch.Tensor):
        return hash((obj.shape, _view_hash(obj), autocast))
    if isinstance(obj, collections.UserDict) and RELEASE.name != "1.17":
        return hash(tuple((key, tuple(part)) for key, part in obj.items()))
    return hash((obj, autocast))


def _view_hash(tensor: torch.Tensor) -> int:
    is_view = isinstance(tensor, HpuTensor) and tensor._user_view
    return hash((tensor.stride(), tensor.storage_offset())) if is_view else 0


def in_clear(value: Any) -> list[str]:
    """What a call was given, for people, and with the dtypes: `bfloat16[2,8]`, `128`."""
    if isinstance(value, torch.Tensor):
        return [f"{str(value.dtype).removeprefix('torch.')}[{','.join(map(str, value.shape))}]"]
    if isinstance(value, dict):
        return [f"{key}={text}" for key, part in value.items() for text in in_clear(part)]
    if isinstance(value, (list, tuple)):
        return [text for part in value for text in in_clear(part)]
    return [repr(value) if isinstance(value, (bool, int, float, str, type(None))) else type(value).__name__]


def tensors_of(value: Any) -> list[torch.Tensor]:
    """The tensors in containers and in attributes of objects; what counts as an output."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    elif not isinstance(value, (list, tuple)):
        value = list(vars(value).values()) if hasattr(value, "__dict__") else []
    return [tensor for part in value for tensor in tensors_of(part)]


def user_inputs(value: Any) -> tuple[torch.Tensor, ...]:
    """The tensors in containers; what counts as an input."""
    if isinstance(value, torch.Tensor):
        return (value,)
    if isinstance(value, dict):
        value = tuple(value.values())
    return sum((user_inputs(part) for part in value), ()) if isinstance(value, (list, tuple)) else ()


def wrap(module: torch.nn.Module, options: Options) -> torch.nn.Module:
    """Replace `forward` of a module in place, and return the module."""
    original: Any = module.forward
    cache = GraphCache(type(module).__name__, original, options)

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return cache(*args, **kwargs)

    def clear_cache() -> None:
        cache.graphs.clear()

    def clear_inputs() -> None:
        for cached in cache.graphs.values():
            cached.graph.clear_inputs()

    module.forward, module.clear_cache, module.clear_inputs = forward, clear_cache, clear_inputs  # type: ignore
    return module
