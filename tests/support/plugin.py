"""Installing a plugin for a test: a folder with the metadata of a distribution, as pip would leave it."""

from __future__ import annotations

from pathlib import Path


def install_plugin(folder: Path, name: str, module: str, source: str | None = None, version: str = "1.0") -> Path:
    """Write a distribution whose entry point `name` is `module`, with the module's source unless it exists already.

    Put the returned folder on the path of imports to have it found.
    """
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[runtime]\n{name} = {module}\n")
    if source is not None:
        (folder / f"{module}.py").write_text(source)
    return folder
