"""What must be installed, by the packages' own metadata; imports none of them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from typing import Final

from packaging.requirements import Requirement

OPTIMUM: Final = "optimum-habana"
VENDOR: Final = "habana-torch-plugin"
"""The distribution of `habana_frameworks`."""
INSTALL: Final = "run: pip install 'vlm-runtime[hpu-optimum]'"
IMAGE: Final = "use one of the vendor's PyTorch images"
BESIDE_METADATA: Final = {"habana_frameworks": IMAGE, "torchvision": f"optimum-habana imports it; {IMAGE}"}
"""Modules that optimum-habana imports and its metadata does not name."""


def lack() -> str | None:
    """Return the first thing that is missing or of a wrong version, and the remedy; None when all is there."""
    if _version(OPTIMUM) is None:
        return f"{OPTIMUM} is not installed; {INSTALL}"
    for module, remedy in BESIDE_METADATA.items():
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed; {remedy}"
    for requirement in _requirements():
        version = _version(requirement.name)
        if version is None:
            return f"{OPTIMUM} needs {requirement}, which is not installed; {INSTALL}"
        if not requirement.specifier.contains(version, prereleases=True):
            return f"{OPTIMUM} {_version(OPTIMUM)} needs {requirement}, not {version}; in its own environment {INSTALL}"
    return None


def versions() -> Mapping[str, str]:
    """Return the versions of what is compared."""
    found = {name: _version(name) for name in (OPTIMUM, "transformers", VENDOR, "torch")}
    return {name: version for name, version in found.items() if version is not None}


def _requirements() -> list[Requirement]:
    """Return what optimum-habana says it needs, without its extras."""
    needed = map(Requirement, importlib.metadata.requires(OPTIMUM) or ())
    return [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
