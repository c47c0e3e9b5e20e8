"""What modules of transformers' network see and say while something is computed: the stages of `runtime verify`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final

import torch

PROJECTOR: Final = "multi_modal_projector"
TOWER_LAYER: Final = re.compile(r".*vision_tower\..*\blayers\.(\d+)")
LAYER: Final = re.compile(r"(?!.*vision_tower).*\blayers\.(\d+)")
"""Names end there; what comes before differs between versions of transformers, and with the architecture."""


class Watch:
    """Keeps stages until the end of the block, as `runtime.hookspecs.Compute.stages` names and shapes them."""

    def __init__(self, net: Any, layers: bool) -> None:
        self._net = net
        self._layers = layers
        self._last = net.config.get_text_config().num_hidden_layers
        self._seen: defaultdict[str, list[torch.Tensor]] = defaultdict(list)
        self._hooks = ExitStack()

    def __enter__(self) -> Watch:
        for name, module in self._net.named_modules():
            inputs, outputs = self._names(name)
            if inputs:
                self._hooks.callback(module.register_forward_pre_hook(self._before(inputs), with_kwargs=True).remove)
            if outputs:
                self._hooks.callback(module.register_forward_hook(self._after(outputs)).remove)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._hooks.close()

    def stages(self) -> dict[str, torch.Tensor]:
        return {name: torch.cat(parts) for name, parts in self._seen.items()}

    def _names(self, module: str) -> tuple[list[str], list[str]]:
        """Return which stages a module's input and its output are."""
        if module.endswith("patch_embedding"):
            return ["pixels"], []
        if module.endswith("pre_layrnorm"):
            return [], ["vision.0"] * self._layers
        if module.endswith(PROJECTOR):
            return ["vision"], ["projector"]
        if tower := TOWER_LAYER.fullmatch(module):
            return [], [f"vision.{int(tower[1]) + 1}"] * self._layers
        if layer := LAYER.fullmatch(module):
            number = int(layer[1]) + 1
            last = ["decoder"] if number == self._last else []
            return ["embeddings"] if number == 1 else [], [f"decoder.{number}"] * self._layers + last
        return [], []

    def _before(self, stages: list[str]) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None]:
        def keep(_module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._keep(stages, arguments[0] if arguments else named["hidden_states"])

        return keep

    def _after(self, stages: list[str]) -> Callable[[Any, Any, Any], None]:
        def keep(_module: Any, _arguments: Any, output: Any) -> None:
            self._keep(stages, output[0] if isinstance(output, tuple) else output)

        return keep

    def _keep(self, stages: list[str], tensor: torch.Tensor) -> None:
        """Of the decoder, a batch is one row, whose tokens are kept."""
        for stage in stages:
            of_tiles = stage.startswith(("pixels", "vision", PROJECTOR.split("_")[-1]))
            self._seen[stage].append(tensor if of_tiles else tensor[0])
