"""What a row's receipt needs to know beside the row, gathered while it is computed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from runtime.backend import DecodeShape, Images, PrefillShape
from runtime.receipt import DecodeUse, PrefillUse, PromptFacts, Receipt, ServerFacts, ShapesUsed, VisionUse
from runtime.runtime import FinishReason, GenerateRequest, Grammar, Info


@dataclass(slots=True)
class Recording:
    """The sizes a row was computed in, and what does not change meanwhile. On the device thread, once it is submitted.

    Only a row whose receipt was asked for has one.
    """

    server: ServerFacts
    parameters: Mapping[str, Any]
    _prefills: list[PrefillShape] = field(default_factory=list, init=False)
    _decodes: list[DecodeShape] = field(default_factory=list, init=False)
    _tiles: list[int] = field(default_factory=list, init=False)

    @classmethod
    def of(cls, request: GenerateRequest, info: Info, loaded: Mapping[str, str]) -> Recording | None:
        """Return the recording of a request, None when it asks for no receipt.

        `loaded` is what the backend tells of itself once the model is loaded (`Capacity.details`).
        """
        if not request.receipt:
            return None
        return cls(_server(info, loaded), parameters_of(request))

    def prefilled(self, shape: PrefillShape, images: Images | None) -> None:
        """Record that a part of the prompt, with these of its pictures, is computed in a prefill of this size."""
        self._prefills.append(shape)
        self._tiles += () if images is None else images.counts

    def decoded(self, shape: DecodeShape) -> None:
        """Record that a token is computed in a step of this size."""
        self._decodes.append(shape)

    def receipt(
        self,
        prompt: PromptFacts,
        seed: int | None,
        tokens: Sequence[int],
        reason: FinishReason,
        resumed_tokens: int,
    ) -> Receipt:
        """Return the receipt of a reply that ends now."""
        # The prefill gives the first token. A step that was launched before the last one's text was known is left out.
        decodes = self._decodes[: len(tokens) - 1]
        prefills = Counter((shape.rows, shape.length, shape.cached) for shape in self._prefills)
        return Receipt(
            server=self.server,
            prompt=prompt,
            seed=seed,
            parameters=self.parameters,
            shapes=ShapesUsed(
                prefill=tuple(PrefillUse(*size, times) for size, times in sorted(prefills.items())),
                decode=_together(decodes),
                vision=tuple(VisionUse(tiles, times) for tiles, times in sorted(Counter(self._tiles).items())),
            ),
            tokens=tuple(tokens),
            finish_reason=reason.value,
            resumed_tokens=resumed_tokens,
        )


def prompt_facts(digest: str, tokens: Sequence[int], images: Images | None) -> PromptFacts:
    """Return what a receipt tells of a prompt; `digest` is that of `runtime.prompt_digest`."""
    pictures = () if images is None else tuple(picture.hex() for picture in images.digests)
    return PromptFacts(digest, len(tokens), pictures)


def parameters_of(request: GenerateRequest) -> dict[str, Any]:
    """Return the parameters that are not neutral, but for the seed; of a grammar its digest."""
    given = {**_changed(request.sampling), **_changed(request.stopping)}
    given.pop("seed", None)
    return given if request.grammar is None else {**given, "grammar": _grammar(request.grammar)}


def _changed(parameters: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that do not have their defaults."""
    values = {each.name: getattr(parameters, each.name) for each in fields(parameters)}
    neutral = {each.name: each.default for each in fields(parameters)}
    return {name: _listed(value) for name, value in values.items() if value != neutral[name]}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _grammar(grammar: Grammar) -> dict[str, str]:
    return {"kind": grammar.kind.value, "digest": hashlib.sha256(grammar.value.encode()).hexdigest()}


def _server(info: Info, loaded: Mapping[str, str]) -> ServerFacts:
    return ServerFacts(
        model_id=info.model_id,
        model_digest=info.model_digest,
        weights_dtype=info.dtype,
        runtime=info.version,
        contract=info.contract,
        backend=info.backend,
        backend_version=info.backend_version,
        device=info.device,
        details={name: value for name, value in {**info.details, **loaded}.items() if name != "device"},
    )


def _together(shapes: Sequence[DecodeShape]) -> tuple[DecodeUse, ...]:
    """Return each size with its number; those of which each holds one token more than the one before are one entry.

    A backend that takes any shape computes every step in another size.
    """
    used: list[DecodeUse] = []
    for (rows, context), times in sorted(Counter((shape.rows, shape.context) for shape in shapes).items()):
        if used and (rows, context - 1) == (used[-1].rows, used[-1].context):
            used[-1] = replace(used[-1], context=context, times=used[-1].times + times)
        else:
            used.append(DecodeUse(rows, context, context, times))
    return tuple(used)
