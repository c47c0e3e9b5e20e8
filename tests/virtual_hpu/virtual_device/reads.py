"""Reads by the host that do not wait: what they read is there only after the device was waited for."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

import torch
from torch import Tensor

from virtual_device.poison import poison


class Reads:
    """Copies to the host that are under way. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: deque[tuple[int, Tensor, Tensor]] = deque()
        self.issued = 0
        """How many were ever started; an event remembers this number."""

    def start(self, place: Tensor, value: Tensor) -> None:
        """Copy a value to a place on the host, which holds nonsense until the copy has arrived."""
        with self._lock:
            self.issued += 1
            self._under_way.append((self.issued, place, value.clone()))
            poison(place)

    def arrive(self, up_to: int | None = None) -> None:
        """End the first copies, by default all of them."""
        with self._lock:
            while self._under_way and (up_to is None or self._under_way[0][0] <= up_to):
                _, place, value = self._under_way.popleft()
                with torch.inference_mode():  # the place may have been made in it
                    place.copy_(value)


READS: Final = Reads()
