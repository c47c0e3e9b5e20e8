"""What a backend declares before anything is loaded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points, packages_distributions
from typing import Final

from packaging.specifiers import SpecifierSet

from runtime.backend import CONTRACT_VERSION, Knob
from runtime.conformance.bench import Bench
from runtime.conformance.check import Failed, NotApplicable, check
from runtime.knobs import KNOBS
from runtime.plugins import ENTRY_POINT_GROUP, FoundBackend

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]*")
LONGEST_SUMMARY: Final = 120
PROBE_SECONDS: Final = 1.0
"""Of the processor, to import a plugin and ask its probe, beside what core has imported already."""
CHILD_SECONDS: Final = 120

PROBING: Final = """
import json, sys, time
import torch, runtime.plugins
from importlib.metadata import entry_points
known, began = set(sys.modules), time.process_time()
plugin = next(point for point in entry_points(group=sys.argv[1]) if point.name == sys.argv[2]).load()
next(spec for spec in plugin.runtime_backends() if spec.name == sys.argv[3]).probe()
seconds = time.process_time() - began
top = lambda names: {name.partition(".")[0] for name in names}
print()
print(json.dumps([seconds, sorted(top(set(sys.modules) - known) - top(known) - sys.stdlib_module_names)]))
"""
"""A process of its own: prints what importing a plugin and asking its probe took and imported."""


@check(
    "spec",
    "The name is a plain word, the summary one line, and the contract a range that ends before the next major version.",
    "A contract such as `>=1.0`, which claims versions whose meaning nobody knows yet.",
)
def spec_is_sane(bench: Bench) -> str:
    spec = bench.found.spec
    assert spec is not None
    if not NAME.fullmatch(spec.name):
        raise Failed(f"the name {spec.name!r} is not a word of small letters, digits and underscores")
    if not spec.summary.strip() or "\n" in spec.summary or len(spec.summary) > LONGEST_SUMMARY:
        raise Failed(f"the summary is not one line of 1 to {LONGEST_SUMMARY} characters")
    next_major = f"{int(CONTRACT_VERSION.partition('.')[0]) + 1}.0"
    if SpecifierSet(spec.contract).contains(next_major):
        raise Failed(f"the contract {spec.contract!r} includes {next_major}; write ~={CONTRACT_VERSION}")
    return f"{spec.name}, contract {spec.contract}"


@check(
    "options",
    "Every option has a name and a variable of its own, a meaning, and a default that it would accept.",
    "An option called as one of the server's own, which then never reaches the backend.",
)
def options_are_sane(bench: Bench) -> str:
    taken = {knob.name for knob in KNOBS}
    variables = {knob.environment for knob in KNOBS}
    for knob in bench.found.options:
        if not NAME.fullmatch(knob.name) or not VARIABLE.fullmatch(knob.environment):
            raise Failed(f"{knob.name!r} with the variable {knob.environment!r} is not like dtype and DTYPE")
        if knob.name in taken or knob.environment in variables:
            raise Failed(f"{knob.flag} or {knob.environment} is the server's own or there twice; choose another word")
        if not knob.meaning.strip():
            raise Failed(f"{knob.flag} has no meaning")
        _check_default(knob)
        taken.add(knob.name)
        variables.add(knob.environment)
    return f"{len(bench.found.options)} options"


def _check_default(knob: Knob) -> None:
    default = knob.default
    if default is None or default == ():
        return
    if knob.choices and default not in knob.choices:
        raise Failed(f"the default {default!r} of {knob.flag} is none of its choices")
    if knob.is_number and not (isinstance(default, int | float) and knob.lowest <= default <= knob.highest):
        raise Failed(f"the default {default!r} of {knob.flag} is not from {knob.lowest} to {knob.highest}")
    if not knob.is_number and not knob.repeatable and not isinstance(default, knob.type):
        raise Failed(f"the default {default!r} of {knob.flag} is not of its type, {knob.type.__name__}")


@check(
    "probe",
    "Listing the backend is cheap and imports no package of a vendor.",
    "An import of the vendor's package at the top of the plugin, which every command of every user then pays for.",
)
def probe_is_cheap(bench: Bench) -> str:
    point = _entry_point(bench.found)
    child = subprocess.run(  # noqa: S603  # our own interpreter, with names of installed plugins
        [sys.executable, "-c", PROBING, ENTRY_POINT_GROUP, point.name, bench.found.name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
        check=False,
    )
    if child.returncode:
        raise Failed(f"in a process of its own it fails: {(child.stderr.strip().splitlines() or ['in silence'])[-1]}")
    seconds, imported = json.loads(child.stdout.splitlines()[-1])
    distributions = packages_distributions()
    foreign = [
        name
        for name in imported
        if name != point.module.partition(".")[0] and bench.found.distribution not in distributions.get(name, ())
    ]
    if foreign:
        raise Failed(f"it imports {', '.join(foreign)}; import that in `load`, and ask `importlib.util.find_spec` here")
    if seconds > PROBE_SECONDS:
        raise Failed(f"it takes {seconds:.1f} s of the processor, and {PROBE_SECONDS} s are allowed")
    return f"{seconds:.2f} s"


def _entry_point(found: FoundBackend) -> EntryPoint:
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.dist is not None and point.dist.name == found.distribution:
            plugin = point.load()
            if found.name in (spec.name for spec in plugin.runtime_backends()):
                return point
    raise NotApplicable("the backend is not of an installed plugin")
