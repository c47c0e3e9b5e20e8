"""Finding plugins, good and bad, as distributions on the path of imports."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import runtime_torch
from click.testing import CliRunner
from runtime import __version__
from runtime.backend import CONTRACT_VERSION, Availability
from runtime.cli import main
from runtime.errors import BackendRefused
from runtime.plugins import FoundBackend, backend_named, find_backends
from support.plugin import install_plugin

HEAD = """
from runtime import hookimpl
from runtime.backend import Availability, BackendSpec

def spec(name, contract="~=1.0", probe=lambda: Availability(True), summary="adds", **more):
    return BackendSpec(name, summary, contract, probe, load=lambda model, limits: None, **more)

def fail(error):
    raise error
"""


OURS = ["cpu", "cpu_reference"]
"""The backends of this project that run anywhere."""
ELSEWHERE = ["cuda", "hpu", "hpu_optimum"]
"""Those that need another machine."""


def listing(specs: str) -> str:
    """Source of a plugin that lists the given expression."""
    return f"{HEAD}\n@hookimpl\ndef runtime_backends():\n    return {specs}\n"


@dataclass
class Plugins:
    """Installs plugins for one test, each in its own distribution and module `NAME_module`."""

    folder: Path
    modules: list[str] = field(default_factory=list)

    def install(self, name: str, source: str) -> None:
        self.modules.append(f"{name}_module")
        install_plugin(self.folder, name, self.modules[-1], source)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugins]:
    """An empty folder on the path of imports; what is imported from it is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    plugins = Plugins(tmp_path)
    yield plugins
    for module in plugins.modules:
        sys.modules.pop(module, None)


def found(name: str) -> FoundBackend:
    """The only backend of that name."""
    (backend,) = [backend for backend in find_backends() if backend.name == name]
    return backend


def test_our_own_plugin_is_found() -> None:
    """Through the entry point of the installed distribution, like a stranger's."""
    backend = backend_named("cpu_reference")
    assert (backend.distribution, backend.version) == ("vlm-runtime", __version__)
    assert backend.availability.ok


def test_good_plugin_is_found(plugins: Plugins) -> None:
    """With what it and its distribution say about it."""
    probe = 'lambda: Availability(True, details={"device": "abacus", "beads": 70})'
    plugins.install("sums", listing(f'[spec("sums", probe={probe}), spec("more_sums")]'))
    backend = backend_named("sums")
    assert backend.spec is not None
    availability = Availability(True, details={"device": "abacus", "beads": "70"})
    assert backend == FoundBackend("sums", "sums", "1.0", "~=1.0", "adds", availability, backend.spec)
    assert backend_named("more_sums").distribution == "sums"


BROKEN = {
    "import": ("import no_such_module", "the plugin failed to load: ModuleNotFoundError: No module named 'no_such_m"),
    "exit": ("raise SystemExit('no licence')", "the plugin failed to load: SystemExit: no licence"),
    "syntax": ("def broken(:", "the plugin failed to load: SyntaxError:"),
    "hook_raises": (listing('fail(ValueError("no rows"))'), "the plugin failed to load: ValueError: no rows"),
    "misspelt": (listing("[]").replace("runtime_backends", "runtime_backend"), "unknown hook 'runtime_backend'"),
    "long": ("raise ImportError('no\\n  driver')", "the plugin failed to load: ImportError: no driver"),
    "no_hook": ("", "the plugin lists no backend: it needs a hook `runtime_backends`"),
    "empty": (listing("[]"), "the plugin lists no backend"),
    "none": (listing("None"), "the plugin lists no backend"),
    "not_listed": (listing('spec("not_listed")'), "the plugin failed to load: TypeError"),
    "text": (listing('["text"]'), "`runtime_backends` listed a str, not a BackendSpec"),
    "name": (listing("[spec(None)]"), "listed a BackendSpec whose name is nothing, not a text"),
    "summary": (listing('[spec("summary", summary=3)]'), "listed a BackendSpec whose summary is a int, not a text"),
    "number": (listing('[spec("number", contract=1.0)]'), "a BackendSpec whose contract is a float, not a text"),
    "future": (listing('[spec("future", "~=2.0")]'), f"it speaks contract ~=2.0, this runtime {CONTRACT_VERSION}"),
    "unparsable": (listing('[spec("unparsable", "one")]'), "its contract 'one' is not a version specifier"),
    "probe_raises": (
        listing('[spec("probe_raises", probe=lambda: fail(OSError("no device file")))]'),
        "its probe failed: OSError: no device file",
    ),
    "probe_exits": (
        listing('[spec("probe_exits", probe=lambda: fail(SystemExit(3)))]'),
        "its probe failed: SystemExit: 3",
    ),
    "probe_none": (
        listing('[spec("probe_none", probe=lambda: None)]'),
        "its probe answered nothing, not an Availability",
    ),
    "options": (
        listing('[BackendSpec("options", "", "~=1.0", None, None, options=["--beads"])]'),
        "`runtime_backends` listed a BackendSpec whose options are no tuple of Knobs",
    ),
    "preference": (
        listing('[BackendSpec("preference", "", "~=1.0", None, None, preference="best")]'),
        "`runtime_backends` listed a BackendSpec whose preference is a str, not a number",
    ),
    "unavailable": (
        listing('[spec("unavailable", probe=lambda: Availability(False, "install it: pip install chip"))]'),
        "install it: pip install chip",
    ),
}


@pytest.mark.parametrize(("name", "source", "reason"), [(name, *case) for name, case in BROKEN.items()])
def test_unusable_plugin_is_listed_with_the_reason(plugins: Plugins, name: str, source: str, reason: str) -> None:
    """Asking for it tells the same, and others stay usable."""
    plugins.install(name, source)
    backend = found(name)
    assert not backend.availability.ok
    assert reason in backend.availability.reason
    assert backend.distribution == name
    with pytest.raises(BackendRefused) as refusal:
        backend_named(name)
    assert refusal.value.message == f"backend {name!r} cannot be used: {backend.availability.reason}"
    assert backend_named("cpu_reference").availability.ok


def test_no_plugin_takes_the_command_down(plugins: Plugins) -> None:
    """`runtime backends` lists all of them, one line each; the JSON has the same facts."""
    for name, (source, _) in BROKEN.items():
        plugins.install(name, source)
    table = CliRunner().invoke(main, ["backends"])
    assert table.exit_code == 0, table.output
    heading, *lines = table.output.splitlines()
    assert heading.split() == ["NAME", "VERSION", "CONTRACT", "AVAILABLE"]
    assert [line.split()[0] for line in lines] == sorted([*BROKEN, *OURS, *ELSEWHERE])
    assert [line.split()[0] for line in lines if "  yes " in line] == OURS
    printed = CliRunner().invoke(main, ["backends", "--json"])
    assert printed.exit_code == 0, printed.output
    facts = {backend["name"]: backend for backend in json.loads(printed.output)}
    assert all(reason in facts[name]["reason"] for name, (_, reason) in BROKEN.items())
    assert [name for name, backend in facts.items() if backend["available"]] == OURS


def test_first_party_name_cannot_be_taken(plugins: Plugins) -> None:
    """Even by a distribution that sorts before ours."""
    plugins.install("aaa", listing('[spec("cpu_reference")]'))
    assert backend_named("cpu_reference").distribution == "vlm-runtime"
    (refused,) = [backend for backend in find_backends() if backend.distribution == "aaa"]
    assert refused.spec is None
    assert refused.availability.reason == "the name 'cpu_reference' is already taken by vlm-runtime"


def test_name_shared_by_strangers(plugins: Plugins) -> None:
    """The distribution that sorts first has it."""
    plugins.install("second", listing('[spec("sums")]'))
    plugins.install("first", listing('[spec("sums")]'))
    assert backend_named("sums").distribution == "first"
    (refused,) = [backend for backend in find_backends() if backend.distribution == "second"]
    assert refused.availability.reason == "the name 'sums' is already taken by first"


def test_broken_plugin_takes_no_name(plugins: Plugins) -> None:
    """A plugin that cannot be loaded does not block a working one that offers a backend of its name."""
    plugins.install("sums", "import no_such_module")
    plugins.install("working", listing('[spec("sums")]'))
    assert backend_named("sums").distribution == "working"


def test_unknown_backend_is_told_the_names(plugins: Plugins) -> None:
    """Those that exist, available or not."""
    unavailable, _ = BROKEN["unavailable"]
    plugins.install("unavailable", unavailable)
    plugins.install("broken", "import no_such_module")
    with pytest.raises(BackendRefused) as refusal:
        backend_named("hal")
    names = ", ".join([*OURS, *ELSEWHERE, "unavailable"])
    assert refusal.value.message == f"there is no backend 'hal'; installed: {names}; see `runtime backends`"


def test_auto_is_the_fast_one() -> None:
    """Of those that this project brings; the oracle is slow on purpose."""
    assert backend_named("auto").name == "cpu"


def test_auto_takes_the_preferred_that_can_run(plugins: Plugins) -> None:
    """An accelerator comes before `cpu` where there is one; among equals the first by name."""
    unavailable = "probe=lambda: Availability(False, 'no chip')"
    for name, more in (
        ("chip", "preference=90"),
        ("absent", f"preference=99, {unavailable}"),
        ("also", "preference=90"),
    ):
        plugins.install(name, listing(f'[spec("{name}", {more})]'))
    assert backend_named("auto").name == "also"


def test_auto_never_takes_what_is_not_to_be_preferred(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preference of 0 is for backends that must be asked for; with no other there is none."""
    plugins.install("chip", listing('[spec("chip", preference=0)]'))
    monkeypatch.setattr(runtime_torch, "probe", lambda: Availability(False, "no torch"))
    with pytest.raises(BackendRefused, match="no backend can be used on this machine; `runtime backends` tells why"):
        backend_named("auto")
