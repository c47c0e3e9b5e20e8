"""HPU graphs, of lazy mode only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from virtual_device.graph import HPUGraph, graph, is_current_stream_capturing
from virtual_device.graph_cache import CachedParams, GraphCache, Options, input_hash, wrap
from virtual_device.release import RELEASE

__all__ = [
    "CachedParams",
    "HPUGraph",
    "graph",
    "input_hash",
    "is_current_stream_capturing",
    "wrap_in_hpu_graph",
    "wrap_in_hpu_graph_func",
]

if RELEASE.name == "1.23":

    def wrap_in_hpu_graph(
        module: Any,
        asynchronous: bool = False,
        disable_tensor_cache: bool = False,
        dry_run: bool = False,
        max_graphs: int | None = None,
        free_inplace: bool = False,
        verbose: bool = False,
        log_frequency: int = 100,
    ) -> Any:
        return wrap(module, Options(asynchronous, disable_tensor_cache, dry_run, max_graphs))

    def wrap_in_hpu_graph_func(
        func: Callable[..., Any],
        asynchronous: bool = False,
        disable_tensor_cache: bool = False,
        dry_run: bool = False,
        max_graphs: int | None = None,
        free_inplace: bool = False,
        verbose: bool = False,
        log_frequency: int = 100,
    ) -> Callable[..., Any]:
        return GraphCache(func.__name__, func, Options(asynchronous, disable_tensor_cache, dry_run, max_graphs))

else:

    def wrap_in_hpu_graph(  # type: ignore[misc]
        module: Any,
        asynchronous: bool = False,
        disable_tensor_cache: bool = False,
        dry_run: bool = False,
        max_graphs: int | None = None,
    ) -> Any:
        return wrap(module, Options(asynchronous, disable_tensor_cache, dry_run, max_graphs))

    def wrap_in_hpu_graph_func(  # type: ignore[misc]
        func: Callable[..., Any],
        asynchronous: bool = False,
        disable_tensor_cache: bool = False,
        dry_run: bool = False,
        max_graphs: int | None = None,
    ) -> Callable[..., Any]:
        return GraphCache(func.__name__, func, Options(asynchronous, disable_tensor_cache, dry_run, max_graphs))
