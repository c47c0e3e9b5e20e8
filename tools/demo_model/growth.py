"""Going on from a tower with fewer layers."""

from __future__ import annotations

import re

from architecture import new_tower
from state import TOWER, Tensors

_LAYER = re.compile(re.escape(TOWER) + r".*\blayers\.(\d+)\.")


def grown(tensors: Tensors) -> Tensors:
    """Return a state with as many tower layers as an untrained tower has; the same state if it has them already.

    New layers begin as nothing, so what the tower says stays the same. The old unused last layer is left behind.
    """
    own = {TOWER + name: tensor for name, tensor in new_tower().state_dict().items()}
    if not any(name.startswith(TOWER) for name in tensors) or own.keys() <= tensors.keys():
        return tensors
    unused = max(int(found[1]) for name in tensors if (found := _LAYER.match(name)))
    kept = {name: tensor for name, tensor in tensors.items() if not _is_of_layer(name, unused)}
    return {name: tensor for name, tensor in own.items() if name not in kept} | kept


def _is_of_layer(name: str, number: int) -> bool:
    found = _LAYER.match(name)
    return found is not None and int(found[1]) == number
