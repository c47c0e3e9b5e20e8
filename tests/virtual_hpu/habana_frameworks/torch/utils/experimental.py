"""Which kind of card it is."""

from __future__ import annotations

from enum import IntEnum


class synDeviceType(IntEnum):
    """Kinds of cards; the numbers are invented, and only compared."""

    synDeviceGaudi = 1
    synDeviceGaudi2 = 4
    synDeviceGaudi3 = 5


def _get_device_type() -> synDeviceType:
    return synDeviceType.synDeviceGaudi2
