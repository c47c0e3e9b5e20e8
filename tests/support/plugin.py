"""Installing a plugin for a test: a folder with the metadata of a distribution, as pip would leave it."""

from __future__ import annotations

from pathlib import Path


def install_plugin(
    folder: Path, name: str, module: str, source: str | None = None, version: str = "1.0", group: str = "runtime"
) -> Path:
    """Write a distribution whose entry point `name` is `module`, with the module's source unless it exists already.

    The entry point of another `group` may name an object in a module, as in `module:object`.

    Put the returned folder on the path of imports to have it found.
    """
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
    if source is not None:
        (folder / f"{module}.py").write_text(source)
    return folder


def static_plugin(name: str, static_shapes: bool) -> str:
    """The source of a plugin whose backend does, or does not, need to know every shape, and cannot load anything."""
    return f"""
from runtime import hookimpl
from runtime.backend import Availability, BackendSpec

@hookimpl
def runtime_backends():
    probe, load = lambda: Availability(True), lambda model, limits: None
    return [BackendSpec({name!r}, "for plans", "~=1.0", probe, load, static_shapes={static_shapes})]
"""
