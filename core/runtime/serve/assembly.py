"""Putting a `LocalRuntime` together: model folder + backend + settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import runtime as package
from runtime import demo
from runtime.backend import CONTRACT_VERSION, Limits, ModelSpec
from runtime.config import Settings
from runtime.errors import BackendError, BackendRefused, StartupError
from runtime.intake.limits import IntakeLimits
from runtime.local import LocalRuntime
from runtime.model import read_model
from runtime.plugins import FoundBackend, Hooks, backend_named, told
from runtime.prompt.builder import PromptBuilder
from runtime.prompt.chat import ChatTemplate
from runtime.prompt.tokenizer import Tokenizer
from runtime.runtime import Info

DEFAULT_TOTAL_TOKENS: Final = 4096
PREFILL_ROWS: Final = 4
"""Prompts computed in one prefill, during which running streams wait."""

log = logging.getLogger(__name__)


def model_folder(model_id: str) -> Path:
    """Return the folder of a model; `demo` is the bundled one."""
    return demo.MODEL if model_id == "demo" else Path(model_id)


def build_runtime(settings: Settings) -> LocalRuntime:
    """Read the model's configs, find the backend and start to load; call on the event loop.

    Raises StartupError for what can be known before the weights are read; `engine.loaded` tells the rest.
    """
    model = read_model(model_folder(settings.model_id))
    backend = backend_named(settings.backend)
    limits = limits_of(settings, model)
    tokenizer = Tokenizer.load(model.path, model.image_token_id)
    intake = IntakeLimits(
        max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels, max_images=settings.max_images
    )
    builder = PromptBuilder(model, tokenizer, ChatTemplate.load(model.path, tokenizer), intake, limits.prefill_tokens)
    return LocalRuntime(
        load=_loader(backend, model, limits),
        prepare=builder.build,
        vocabulary=tokenizer,
        eos_ids=model.eos_ids,
        info=_info(settings, model, backend, limits),
        max_stop_sequences=settings.max_stop_sequences,
        lease_idle_seconds=settings.lease_idle_seconds,
    )


def limits_of(settings: Settings, model: ModelSpec) -> Limits:
    """Resolve the limits that depend on the model; StartupError names both sides of a contradiction."""
    total = settings.max_total_tokens or min(model.max_positions, DEFAULT_TOTAL_TOKENS)
    prompt = settings.max_input_tokens or total - 1
    if total > model.max_positions:
        raise StartupError(f"--max-total-tokens {total} exceeds the {model.max_positions} positions of the model")
    if not 0 < prompt < total:
        raise StartupError(f"--max-input-tokens {prompt} must be below --max-total-tokens {total}")
    rows = settings.max_batch_size
    return Limits(rows=rows, context=total, prefill_rows=min(rows, PREFILL_ROWS), prefill_tokens=prompt)


def _loader(backend: FoundBackend, model: ModelSpec, limits: Limits) -> Callable[[], Hooks]:
    def load() -> Hooks:
        assert backend.spec is not None
        try:
            loaded = backend.spec.load(model, limits)
        except (Exception, SystemExit) as error:
            log.debug("backend %s failed to load", backend.name, exc_info=True)
            raise BackendRefused(f"backend {backend.name} could not load the model: {told(error)}") from error
        try:
            return Hooks(backend.name, loaded, model, limits)
        except BackendError as error:
            raise BackendRefused(error.message) from error

    return load


def _info(settings: Settings, model: ModelSpec, backend: FoundBackend, limits: Limits) -> Info:
    return Info(
        model_id=settings.model_id,
        model_digest=model.digest,
        architecture=model.architecture,
        dtype=model.dtype,
        backend=backend.name,
        backend_version=backend.version,
        contract=CONTRACT_VERSION,
        device=backend.availability.details.get("device", "unknown"),
        version=package.__version__,
        max_input_tokens=limits.prefill_tokens,
        max_total_tokens=limits.context,
        max_batch_size=limits.rows,
        max_concurrent_requests=settings.max_concurrent_requests,
        vision=model.images is not None,
        details=backend.availability.details,
    )
