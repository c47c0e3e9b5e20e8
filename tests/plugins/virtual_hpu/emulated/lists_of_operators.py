"""Compilations in lazy mode and the metrics that tell of them; the vendor's expectations, in our words.

Vendor: tests/pytest_working/test_metrics.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import habana_frameworks.torch as bridge
import pytest
import torch
from habana_frameworks.torch.hpu.metrics import MetricNotFound, metric_global, metric_localcontext, metrics_dump
from virtual_device import counters


def step(*shape: int, factor: float = 1.0) -> None:
    """A few operators, and a step."""
    (torch.ones(shape, device="hpu") * factor).softmax(-1)
    bridge.core.mark_step()


def compute(shape: list[int], sums: int = 1) -> None:
    """The vendor's computation; reading the result launches it."""
    one, other = (torch.rand(shape).to("hpu") for _ in range(2))
    product = one * other
    for _ in range(sums):
        one += other
    (one * product).cpu()


def test_the_same_list_is_compiled_once() -> None:
    """Another shape is another list, and so is another number."""
    step(3)
    before = counters.snapshot()
    for _ in range(5):
        step(3)
    assert (counters.snapshot() - before).compilations == 0
    for size in (4, 5, 4):
        step(size)
    assert (counters.snapshot() - before).compilations == 2
    step(4, factor=2.0)
    assert (counters.snapshot() - before).compilations == 3


def test_steps_are_counted_where_they_are_made() -> None:
    """And answer nothing."""
    before = counters.snapshot()
    assert bridge.core.mark_step() is None
    assert [site.split(":")[0] for site in (counters.snapshot() - before).mark_steps] == ["lists_of_operators.py"]


def test_closures_run_at_the_next_step() -> None:
    """Once."""
    found: list[int] = []
    bridge.core.add_step_closure(found.append, (7,))
    assert found == []
    bridge.core.mark_step()
    bridge.core.mark_step()
    assert found == [7]


def test_ten_times_the_same_shape_is_one_compilation() -> None:
    """And nine hits of the cache of recipes."""
    metric, cache = metric_global("graph_compilation"), metric_global("recipe_cache")
    metric.reset(), cache.reset()
    for _ in range(10):
        compute([1, 2, 3, 4])
        assert dict(metric.stats())["TotalNumber"] == 1
    found = dict(cache.stats())
    assert (found["TotalMiss"], found["TotalHit"]) == (1, 9)


def test_ten_shapes_are_ten_compilations() -> None:
    """The time grows with each."""
    metric, time = metric_global("graph_compilation"), 0
    metric.reset()
    for number in range(1, 11):
        compute([10, 20, number], sums=number)
        found = dict(metric.stats())
        assert found["TotalNumber"] == number
        assert found["TotalTime"] > time
        time = found["TotalTime"]


def test_local_metrics_count_inside_only() -> None:
    """Also one in another."""
    with metric_localcontext("graph_compilation") as outer:
        for first, last in ((1, 4), (4, 6)):
            with metric_localcontext("graph_compilation") as inner:
                for number in range(first, last):
                    compute([10, 30, number], sums=number)
            assert dict(inner.stats())["TotalNumber"] == last - first
    compute([10, 30, 9])
    assert dict(outer.stats())["TotalNumber"] == 5
    with pytest.raises(MetricNotFound), metric_localcontext("no such metric"):
        pass


def test_fallbacks_are_counted_by_operator() -> None:
    """In the metric as in the counters."""
    metric, before = metric_global("cpu_fallback"), counters.snapshot()
    metric.reset()
    torch.special.bessel_j0(torch.ones(2, device="hpu"))
    assert (counters.snapshot() - before).cpu_fallbacks == {"special_bessel_j0": 1}
    assert metric.stats() == [("TotalNumber", 1), ("FallbackOps", {"aten::special_bessel_j0": 1})]


def test_details_name_the_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the environment asks for them."""
    metric = metric_global("graph_compilation")
    metric.reset()
    compute([3, 2, 1])
    assert "recipe" not in dict(metric.stats())
    monkeypatch.setenv("PT_HPU_METRICS_GC_DETAILS", "1")
    assert len(dict(metric.stats())["recipe"]) == dict(metric.stats())["TotalNumber"]


def test_metrics_go_to_a_file(tmp_path: Path) -> None:
    """Those of the whole process."""
    metrics_dump(str(tmp_path / "metrics.json"))
    names = {metric["metric_name"] for metric in json.loads((tmp_path / "metrics.json").read_text())}
    assert names == {"graph_compilation", "cpu_fallback", "memory_defragmentation", "recipe_cache"}


def test_integers_have_32_bits() -> None:
    """In lazy mode, where they are carried as such."""
    with pytest.raises(RuntimeError, match="does not fit the 32 bits"):
        torch.tensor([2**31], device="hpu")
    with pytest.raises(RuntimeError, match="does not fit the 32 bits"):
        torch.full((2,), 2**31 - 1, device="hpu") * 2
