"""Whether this machine can run the backend, found out without importing anything of the vendor's.

An import would change PyTorch for the whole process, and read the environment once and for all.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.version import Version
from runtime.backend import Availability

PACKAGE: Final = "habana_frameworks"
DISTRIBUTION: Final = "habana-torch-plugin"
OLDEST: Final = Version("1.17")
"""The first release whose kernels take what the plugin gives them."""
EMULATED: Final = "emulated"
"""Local part of the version of an emulation, which needs no device."""
NODES: Final = ("dev/accel/accel[0-9]*", "dev/hl[0-9]*")
"""Patterns below the root, of newer and of older drivers."""

NOT_INSTALLED: Final = (
    f"{DISTRIBUTION} is not installed: pip install 'vlm-runtime[hpu]', in an image of the Intel Gaudi software, which "
    "has the PyTorch that belongs to it"
)
NO_DEVICE: Final = (
    "no Gaudi is to be seen, neither /dev/accel/accel* nor /dev/hl*: start the container with --runtime=habana and "
    "HABANA_VISIBLE_DEVICES=all"
)


def availability(root: Path = Path("/")) -> Availability:
    """Look for the package and a device node below `root`."""
    version = installed()
    if version is None:
        return Availability(False, NOT_INSTALLED)
    details = {"device": f"hpu-{EMULATED}" if is_emulated(version) else "hpu", "habana": str(version)}
    if version < OLDEST:
        return Availability(False, f"{DISTRIBUTION} {version} is too old; install {OLDEST} or newer", details)
    if is_emulated(version):
        return Availability(True, details={**details, EMULATED: "yes"})
    if not any(any(root.glob(pattern)) for pattern in NODES):
        return Availability(False, NO_DEVICE, details)
    return Availability(True, details=details)


def installed() -> Version | None:
    """Return the release of the bridge; None where it is not."""
    if importlib.util.find_spec(PACKAGE) is None:
        return None
    try:
        return Version(metadata.version(DISTRIBUTION))
    except metadata.PackageNotFoundError:
        return None


def is_emulated(version: Version) -> bool:
    return EMULATED in (version.local or "").split(".")
