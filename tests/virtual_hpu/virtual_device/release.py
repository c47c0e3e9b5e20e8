"""The release of the vendor's software that is emulated, and its mode; both are fixed when this is first imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

DISTRIBUTION: Final = "habana-torch-plugin"


@dataclass(frozen=True, slots=True)
class Release:
    """What differs between releases."""

    name: str
    lazy_by_default: bool
    attention_arguments: int
    """How many arguments FusedSDPA takes."""
    masks_beside_causal: bool
    """Whether FusedSDPA takes an explicit mask together with `is_causal`."""


RELEASES: Final = {
    release.name: release
    for release in (
        Release("1.17", lazy_by_default=True, attention_arguments=11, masks_beside_causal=False),
        Release("1.19", lazy_by_default=True, attention_arguments=13, masks_beside_causal=False),
        Release("1.23", lazy_by_default=False, attention_arguments=15, masks_beside_causal=True),
    )
}


def _chosen() -> Release:
    """The release of VIRTUAL_HPU_RELEASE, which the distribution's metadata must agree with."""
    name = os.environ.get("VIRTUAL_HPU_RELEASE", "1.19")
    if name not in RELEASES:
        raise RuntimeError(f"VIRTUAL_HPU_RELEASE={name}: known are {', '.join(RELEASES)}")
    if not version(DISTRIBUTION).startswith(f"{name}."):
        raise RuntimeError(f"VIRTUAL_HPU_RELEASE={name} but {DISTRIBUTION} is {version(DISTRIBUTION)}")
    return RELEASES[name]


RELEASE: Final = _chosen()
LAZY: Final = os.environ.get("PT_HPU_LAZY_MODE", "1" if RELEASE.lazy_by_default else "0") != "0"
"""Lazy mode gathers operators and compiles them together; eager mode compiles each."""
