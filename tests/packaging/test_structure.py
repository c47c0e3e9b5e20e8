"""Rules of the source tree that no linter knows."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = [ROOT / "core", *sorted((ROOT / "plugins").iterdir())]
CORE = sorted(path for path in (ROOT / "core" / "runtime").rglob("*.py") if path.parent.name not in ("v1", "v3"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))

# What each room of core may import of the others, itself included. Rooms are listed from the bottom up.
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "knobs": set(),
    "console": set(),
    "config": {"errors", "knobs"},
    "compatibility": {"errors", "knobs"},
    "backend": {"knobs"},
    "hookspecs": {"backend"},
    "geometry": set(),
    "cost": {"backend"},
    "receipt": {"errors"},
    "replay": {"errors", "receipt"},
    "runtime": {"backend", "cost", "receipt"},
    "availability": {"errors", "runtime"},
    "recording": {"backend", "receipt", "runtime"},
    "v1": set(),
    "v3": set(),
    "demo": set(),
    "telemetry": {"errors", "runtime"},
    "vocabulary": set(),
    "detokenize": {"vocabulary"},
    "slots": set(),
    "budgets": {"backend"},
    "shapes": {"backend", "budgets", "config", "errors", "geometry"},
    "waiting": {"budgets"},
    "sampling": {"errors", "runtime"},
    "intake": {"errors", "geometry", "runtime", "telemetry"},
    "prompt": {"backend", "errors", "geometry", "intake", "runtime", "telemetry", "vocabulary"},
    "model": {"backend", "errors"},
    "static": {"backend", "demo", "errors", "geometry", "model"},
    "parameters": {"errors", "runtime"},
    "plugins": {"backend", "errors", "hookspecs", "knobs"},
    "wrappers": {"backend", "errors", "plugins"},
    "new_backend": {"backend", "errors", "knobs", "plugins"},
    "scheduler": {"budgets", "errors", "slots", "waiting"},
    "prefixes": set(),
    "parts": {"backend", "prefixes"},
    "prompt_digest": {"backend"},
    "row": {
        "backend", "budgets", "cost", "detokenize", "errors", "parts", "prefixes", "receipt", "recording", "runtime",
        "sampling", "vocabulary",
    },
    "batches": {"backend", "parts", "row"},
    "stepper": {"backend", "batches", "errors", "plugins", "row", "runtime", "sampling", "telemetry"},
    "leases": {
        "backend", "budgets", "errors", "plugins", "prefixes", "row", "runtime", "slots", "stepper", "telemetry",
    },
    "warming": {"backend"},
    "preparation": {
        "backend", "batches", "budgets", "errors", "plugins", "runtime", "shapes", "telemetry", "warming",
    },
    "probe": {"backend", "batches", "budgets", "errors", "plugins", "row", "runtime", "sampling", "stepper"},
    "batcher": {
        "batches", "errors", "leases", "prefixes", "preparation", "probe", "row", "runtime", "scheduler", "slots",
        "stepper", "telemetry",
    },
    "engine": {
        "backend", "batcher", "budgets", "errors", "leases", "plugins", "preparation", "row", "runtime", "telemetry",
    },
    "admission": {"budgets", "errors", "row", "runtime", "telemetry"},
    "mailbox": {"row", "runtime"},
    "prompt_tokens": {"detokenize", "runtime", "vocabulary"},
    "row_maker": {
        "backend", "budgets", "errors", "prompt_digest", "recording", "row", "runtime", "sampling", "telemetry",
        "vocabulary",
    },
    "local": {
        "admission", "availability", "backend", "budgets", "cost", "engine", "errors", "leases", "mailbox",
        "parameters", "plugins", "preparation", "prompt_tokens", "row", "row_maker", "runtime", "sampling", "telemetry",
        "vocabulary",
    },
    "api_key": set(),
    "clients": {"errors"},
    "rpc": {
        "api_key", "backend", "clients", "cost", "errors", "parameters", "prompt", "receipt", "runtime", "telemetry",
        "v1", "v3",
    },
    "remote": {"backend", "errors", "rpc", "runtime", "telemetry", "v1"},
    "http": {"api_key", "clients", "cost", "errors", "parameters", "prompt", "runtime", "telemetry"},
    "verify": {"backend", "batches", "errors", "geometry", "parts", "plugins", "prompt", "shapes"},
    "shadow": {"backend", "geometry", "hookspecs", "plugins", "telemetry", "verify"},
    "draining": {"availability", "backend", "runtime"},
    "resuming": {"availability", "errors", "remote", "runtime", "telemetry"},
    "serve": {
        "api_key", "availability", "backend", "budgets", "clients", "compatibility", "config", "demo", "draining",
        "errors", "http", "intake", "knobs", "local", "model", "plugins", "preparation", "prompt", "remote", "resuming",
        "rpc", "runtime", "sampling", "shadow", "shapes", "telemetry", "verify", "wrappers",
    },
    "conformance": {
        "backend", "batches", "budgets", "console", "demo", "errors", "geometry", "knobs", "model", "parts", "plugins",
        "shapes",
    },
    "cli": {
        "backend", "budgets", "compatibility", "config", "conformance", "console", "demo", "errors", "knobs", "model",
        "new_backend", "plugins", "receipt", "replay", "serve", "shapes", "telemetry", "verify",
    },
}  # fmt: skip


def room_of(path: Path) -> str:
    """The package or module directly below `runtime`."""
    return path.relative_to(ROOT / "core" / "runtime").parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The dotted names a module imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_core_imports_point_one_way(path: Path) -> None:
    """A room of core imports only those below it."""
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    used = {name.split(".")[1] for name in imports_of(path) if name.startswith("runtime.")}
    assert used - {"__version__", "hookimpl"} <= LAYERS[room] | {room}


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_import_the_contract_only(path: Path) -> None:
    """Of core, a plugin may know the boundary and the toolkit; of other plugins, nothing."""
    own = path.relative_to(ROOT / "plugins").parts[1]
    for name in imports_of(path):
        if name.split(".")[0].startswith("runtime"):
            core = ("backend", "errors", "hookimpl", "hookspecs", "static")
            assert name.startswith((own, *(f"runtime.{room}" for room in core))), name


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_core_names_no_device(path: Path) -> None:
    """Core serves any accelerator, so it knows the name of none.

    But for the file that tells operators of TGI-Gaudi what became of its variables and flags.
    """
    if path.name == "compatibility.py":
        return
    assert not re.search(r"hpu|cuda|gaudi|habana", path.read_text().replace("TGI-Gaudi", ""), re.IGNORECASE)


def test_layers_are_sorted_from_the_bottom_up() -> None:
    """The table itself has no cycle: each room only names rooms above it in the table."""
    seen: set[str] = set()
    for room, below in LAYERS.items():
        assert below <= seen, room
        seen.add(room)


def test_setup_lists_every_package() -> None:
    """Packages are listed by hand; the list is the disk."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    found = {
        ".".join(init.parent.relative_to(root).parts) for root in SOURCE_ROOTS for init in root.rglob("__init__.py")
    }
    assert set(setup["options"]["packages"].split()) == found


@pytest.mark.parametrize("path", [*CORE, *PLUGINS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_hold_one_noun(path: Path) -> None:
    """No file grows beyond what a reader holds in mind."""
    assert len(path.read_text().splitlines()) <= 500


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    """`make protos` would change nothing."""
    protos = pytest.importorskip("grpc_tools", reason="pip install 'vlm-runtime[dev]'")
    assert protos
    subprocess.run([_python(), str(ROOT / "tools" / "protos.py"), str(tmp_path)], check=True)

    def generated(root: Path) -> dict[Path, str]:
        return {path.relative_to(root): path.read_text() for path in root.rglob("*_pb2*") if path.suffix != ".pyc"}

    assert generated(tmp_path) == generated(ROOT / "core")


def test_version_is_the_metadata_s() -> None:
    """The installed distribution tells the version of the code."""
    from importlib.metadata import version

    import runtime

    assert version("vlm-runtime") == runtime.__version__


def _python() -> str:
    import sys

    return sys.executable
