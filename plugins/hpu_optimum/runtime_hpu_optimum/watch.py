"""What parts of the network are given and give while a prompt is computed: the stages of `runtime verify`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


class Watch:
    """Keeps stages, as `runtime.hookspecs.Compute.stages` names and shapes them, on the host."""

    def __init__(self) -> None:
        self.length = 0
        """Tokens of the prompt that is computed; what comes after them is padding."""
        self._seen: defaultdict[str, list[torch.Tensor]] = defaultdict(list)

    def stages(self) -> dict[str, torch.Tensor]:
        """Return what was seen, of all prompts."""
        return {name: torch.cat(parts) for name, parts in self._seen.items()}

    def given(self, stage: str) -> Callable[[Any, tuple[Any, ...]], None]:
        """Return a hook that keeps the first argument."""

        def keep(_module: Any, arguments: tuple[Any, ...]) -> None:
            self._keep(stage, arguments[0])

        return keep

    def gives(self, stage: str) -> Callable[[Any, tuple[Any, ...], Any], None]:
        """Return a hook that keeps the answer, or the first of several."""

        def keep(_module: Any, _arguments: tuple[Any, ...], output: Any) -> None:
            self._keep(stage, output[0] if isinstance(output, tuple) else output)

        return keep

    def _keep(self, stage: str, tensor: torch.Tensor) -> None:
        is_of_tokens = stage.startswith(("embeddings", "decoder"))
        self._seen[stage].append((tensor[0, : self.length] if is_of_tokens else tensor).cpu())


@contextmanager
def watching(module: Any, *, layers: bool) -> Iterator[Watch]:
    """Watch GaudiLlavaNextForConditionalGeneration; every hidden state too with `layers`."""
    watch, tower, decoder = Watch(), module.vision_tower.vision_model, module.language_model.layers
    with ExitStack() as hooks:

        def before(part: Any, stage: str) -> None:
            hooks.enter_context(part.register_forward_pre_hook(watch.given(stage)))

        def after(part: Any, stage: str) -> None:
            hooks.enter_context(part.register_forward_hook(watch.gives(stage)))

        before(tower.embeddings.patch_embedding, "pixels")
        before(module.multi_modal_projector, "vision")
        after(module.multi_modal_projector, "projector")
        before(decoder[0], "embeddings")
        after(decoder[-1], "decoder")
        if layers:
            after(tower.pre_layrnorm, "vision.0")
            for number, layer in enumerate(tower.encoder.layers, start=1):
                after(layer, f"vision.{number}")
            for number, layer in enumerate(decoder, start=1):
                after(layer, f"decoder.{number}")
        yield watch
