"""The options that backends of this project declare, as the command line has them."""

from __future__ import annotations

import runtime_cpu_reference
import runtime_hpu
import runtime_hpu_optimum
import runtime_torch
from runtime.backend import Knob

PLUGINS = (runtime_cpu_reference, runtime_hpu, runtime_hpu_optimum, runtime_torch)
SPECS = sorted((spec for plugin in PLUGINS for spec in plugin.runtime_backends()), key=lambda spec: spec.name)

OPTIONS: list[Knob] = []
"""In the order of the backends' names; of one name, the first."""
for knob in (knob for spec in SPECS for knob in spec.options):
    if knob.name not in {option.name for option in OPTIONS}:
        OPTIONS.append(knob)
