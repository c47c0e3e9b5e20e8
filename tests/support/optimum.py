"""optimum-habana's network on the virtual device, loaded once, and the oracle elsewhere.

Only for a process of its own: loading the network changes transformers under everything that is loaded later.
"""

from __future__ import annotations

import atexit
import functools
import warnings
from dataclasses import replace

import habana_frameworks.torch  # noqa: F401  # registers the device
import torch
from runtime.backend import ImageGeometry, Limits, ShapePlan
from runtime.budgets import Budgets
from runtime.model import read_model
from runtime.shapes import Ladders, PlannedShapes, plan_shapes
from runtime_hpu_optimum.backend import HpuOptimum
from runtime_hpu_optimum.net import Attention, Net, load_net
from support.agreement import Agreement, Picture
from support.checkpoints import DEMO
from support.oracle_apart import OracleApart

MODEL = read_model(DEMO)
LIMITS = Limits(rows=4, context=384, prefill_rows=3, prefill_tokens=360)


@functools.cache
def oracle() -> OracleApart:
    """transformers as it is."""
    apart = OracleApart(MODEL, LIMITS)
    atexit.register(apart.close)
    return apart


@functools.cache
def net() -> Net:
    """The demo model in fp32; `adapt_transformers_to_gaudi` can be called once in a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optimum-habana is of the year before the torch of these tests
        return load_net(MODEL, "float32", Attention(flash=False, recompute=False), graphs=True)


def plan(limits: Limits = LIMITS) -> ShapePlan:
    return plan_shapes(MODEL, limits, Budgets.of(limits), Ladders.exponential(128, 2, 3), resumes=False)


def backend(*, flash: bool, limits: Limits = LIMITS) -> HpuOptimum:
    """A backend with an empty cache; graphs of the one before have the addresses of its cache, and are forgotten."""
    if net().graphs:
        net().module.clear_cache()
    return HpuOptimum(MODEL, limits, replace(net(), attention=Attention(flash, recompute=False)))


def traffic(tested: HpuOptimum, seed: int, *, pictures: bool, limits: Limits = LIMITS) -> Agreement:
    """Random requests for both; pictures of equally many tiles, for optimum-habana takes no others."""
    model = MODEL if pictures else replace(MODEL, images=None)
    return EquallyTiled(model, limits, tested, oracle(), seed, shapes=PlannedShapes(plan(limits)))


class EquallyTiled(Agreement):
    """Traffic whose pictures are all of five tiles."""

    def picture(self, geometry: ImageGeometry) -> Picture:
        found = super().picture(geometry)
        while len(found.tiles) != 5:
            self.seen = [each for each in self.seen if each is not found]
            found = super().picture(geometry)
        return found


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Root mean square of the difference, in that of what is wanted."""
    return float((got - wanted).pow(2).mean().sqrt() / wanted.pow(2).mean().sqrt())
