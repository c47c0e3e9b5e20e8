"""Which mode the bridge runs in."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from virtual_device.release import LAZY

logger = logging.getLogger(__name__)


def is_lazy() -> bool:
    return LAZY


def lazy_only(func: Callable[..., Any]) -> Callable[..., None]:
    """In eager mode the function stays, and does nothing."""

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> None:
        func(*args, **kwargs)

    @functools.wraps(func)
    def ignore(*args: Any, **kwargs: Any) -> None:
        pass

    if LAZY:
        return call
    logger.warning("Calling %s does not have any effect: it is for lazy mode only. (logged once)", func.__name__)
    return ignore
