"""The pluggy hooks of a backend plugin: one for discovery, the rest for compute.

Compute hooks are called on the device thread only and never concurrently. They are hooks, not methods, so that
wrappers (`@hookimpl(wrapper=True)`) can trace, measure, inject faults and compare without the engine knowing.
A hook call costs a few microseconds: once per device step is free, once per layer is not.
Implementations may take fewer arguments than the spec, so new arguments never break a plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    import torch

    from runtime.backend import (
        BackendSpec,
        Capacity,
        DecodeBatch,
        DecodeOutput,
        Placement,
        PrefillBatch,
        PrefillOutput,
        Prefix,
        ShapePlan,
        WarmupProgress,
    )

PROJECT: Final = "runtime"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Discovery:
    """Hooks of a plugin module, the object an entry point of the group `runtime` names."""

    @hookspec
    def runtime_backends(self) -> Sequence[BackendSpec]:  # type: ignore[empty-body]
        """List the backends this plugin offers; must be cheap and import no vendor package."""


class Compute:
    """Hooks of one loaded backend."""

    @hookspec
    def warmup(self, plan: ShapePlan, progress: Callable[[WarmupProgress], None]) -> None:
        """Run every shape of `plan` so that none is met for the first time in service; change no slot.

        Call `progress` after each shape, and let through what it raises. `capacity` is asked again afterwards.
        """

    @hookspec(firstresult=True)
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:  # type: ignore[empty-body]
        """Compute prompts; return the logits after each row's last token and the state to concatenate.

        A backend whose `capacity` says that it resumes gets parts of prompts too.
        """

    @hookspec
    def concatenate(self, prefix: Prefix[object], placements: Sequence[Placement]) -> None:
        """Put rows of a finished prefill into slots of the running decode batch; nothing else may move."""

    @hookspec(firstresult=True)
    def decode(self, batch: DecodeBatch) -> DecodeOutput:  # type: ignore[empty-body]
        """Append one token to every active slot and return the logits after it."""

    @hookspec
    def release(self, slots: Sequence[int]) -> None:
        """Hear that the rows in these slots have ended (optional; a later concatenate overwrites them anyway).

        A backend that resumes keeps what they hold.
        """

    @hookspec(firstresult=True)
    def stages(self, batch: PrefillBatch, layers: bool) -> Mapping[str, torch.Tensor]:  # type: ignore[empty-body]
        """Return named intermediate tensors of a prefill of whole prompts, for `runtime verify` (optional).

        Computed as `prefill` computes them, which is called with the same batch next; may write to the batch's slots.
        Tiles are those of all rows, one behind the other, and so are tokens, without padding:

        - `pixels` [tiles, 3, side, side]: what the vision tower is given
        - `vision` [tiles, patches, width]: the features it gives, class tokens dropped
        - `projector` [tiles, patches, hidden]: what the projector makes of them
        - `embeddings` [tokens, hidden]: the decoder's input, pictures in the place of their placeholders
        - `decoder` [tokens, hidden]: the output of its last layer, before the norm

        With `layers` also every hidden state: `vision.0` [tiles, patches + 1, width], the input of the tower's first
        layer, `vision.1`, the output of that layer, and so on; and `decoder.1` [tokens, hidden] and so on. A stage that
        the backend cannot tell, or the batch has not, is left out.
        """

    @hookspec(firstresult=True)
    def capacity(self) -> Capacity:  # type: ignore[empty-body]
        """Tell what the loaded backend really affords (optional; the limits it was loaded with otherwise).

        After a warm-up it may be fewer rows: as many as a decode shape of the plan has.
        """

    @hookspec(firstresult=True)
    def stats(self) -> Mapping[str, float]:  # type: ignore[empty-body]
        """Return counters of the backend, for metrics (optional); cheap, for it is called after each prefill.

        `image_encode_seconds`, when there, is the time the vision tower has taken so far.
        """
