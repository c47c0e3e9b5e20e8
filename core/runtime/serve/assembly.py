"""Putting a `LocalRuntime` together: model folder + backend + settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import runtime as package
from runtime import demo
from runtime.backend import CONTRACT_VERSION, Limits, ModelSpec
from runtime.budgets import Budgets
from runtime.compatibility import FOREIGN_FLAGS
from runtime.config import Settings, check_order
from runtime.errors import StartupError
from runtime.intake.decoders import Decoders
from runtime.intake.fetch import Fetcher
from runtime.intake.limits import IntakeLimits
from runtime.intake.pictures import PictureIntake
from runtime.intake.policy import UrlPolicy
from runtime.knobs import SHAPES, Value, flag_of
from runtime.local import LocalRuntime, metrics_of
from runtime.model import FoundModel, find_model, read_model
from runtime.plugins import FoundBackend, Hooks, backend_named, loaded
from runtime.preparation import Planner
from runtime.prompt.builder import PromptBuilder
from runtime.prompt.chat import ChatTemplate
from runtime.prompt.preparation import PromptPreparer
from runtime.prompt.tiles import cutting_of
from runtime.prompt.tokenizer import Tokenizer
from runtime.prompt.written_ids import WrittenIds
from runtime.runtime import Info
from runtime.sampling.grammar import GrammarCompiler
from runtime.serve.shadowing import Shadowing
from runtime.shapes import Ladders, plan_shapes
from runtime.telemetry.fetches import Fetches
from runtime.wrappers import FoundWrapper, wrappers_named

DEFAULT_TOTAL_TOKENS: Final = 4096
DEFAULT_ROWS: Final = 8
PREFILL_ROWS: Final = 4
"""Prompts computed in one prefill, during which running streams wait."""

log = logging.getLogger(__name__)


def model_of(settings: Settings) -> FoundModel:
    """Find and read the model; `demo` is the bundled one. Blocks while one of the hub is fetched.

    Raises ModelRefused.
    """
    if settings.model_id == "demo":
        return FoundModel(read_model(demo.MODEL), None)
    return find_model(settings.model_id, settings.revision, settings.huggingface_hub_cache)


def build_runtime(settings: Settings, found: FoundModel) -> LocalRuntime:
    """Find the backend and start to load; call on the event loop.

    Raises StartupError for what can be known before the weights are read; `engine.loaded` tells the rest.
    """
    model = found.spec
    backend = backend_named(settings.backend)
    limits = replace(limits_of(settings, model), options=options_of(settings, backend))
    budgets = budgets_of(settings, limits)
    tokenizer = Tokenizer.load(model.path, model.image_token_id)
    intake = IntakeLimits(
        max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels, max_images=settings.max_images
    )
    builder = PromptBuilder(model, tokenizer, ChatTemplate.load(model.path, tokenizer), intake, limits.prefill_tokens)
    ids = WrittenIds()
    info = _info(settings, found, backend, limits, budgets)
    metrics = metrics_of(info)
    preparer = PromptPreparer(builder, _picture_intake(settings, model, intake, metrics.fetches))
    shadowing = Shadowing.of(settings, model, limits, metrics)
    wrappers = wrappers_named(settings.wrap)
    if shadowing is not None:
        wrappers.append(shadowing.wrapper)  # outermost, where it sees what is served

    def release() -> None:
        preparer.close()
        if shadowing is not None:
            shadowing.comparer.close()

    runtime = LocalRuntime(
        load=_loader(backend, wrappers, model, limits),
        prepare=(lambda request: preparer.prepare(ids.read(request))) if settings.skip_tokenizer else preparer.prepare,
        release=release,
        vocabulary=ids if settings.skip_tokenizer else tokenizer,
        eos_ids=frozenset() if settings.ignore_eos else model.eos_ids,
        info=info,
        metrics=metrics,
        max_stop_sequences=settings.max_stop_sequences,
        max_queue=settings.max_queue,
        max_queue_seconds=settings.max_queue_seconds,
        lease_idle_seconds=settings.lease_idle_seconds,
        budgets=budgets,
        prepare_threads=settings.validation_workers,
        grammars=None if settings.skip_tokenizer else _grammars(model),
        plan=_planner(settings, backend, model),
        reuse_prefixes=settings.reuses_prefixes,
        prefill_chunk=settings.longest_part,
        warm_up=settings.warmup_enabled,
        apart=settings.deterministic,
    )
    preparer.start()
    return runtime


def _picture_intake(
    settings: Settings, model: ModelSpec, limits: IntakeLimits, fetches: Fetches
) -> PictureIntake | None:
    """Return what fetches and decodes; None for a model that takes no pictures. Raises StartupError."""
    policy = UrlPolicy.of(settings.image_url_policy, settings.image_url_allow)
    if model.images is None:
        return None
    decoders = Decoders(settings.validation_workers, limits, cutting_of(model.images))
    return PictureIntake(Fetcher(policy, limits.max_bytes, fetches=fetches), decoders, limits)


def _grammars(model: ModelSpec) -> GrammarCompiler:
    return GrammarCompiler((model.path / "tokenizer.json").read_text(encoding="utf-8"), model.eos_ids)


def limits_of(settings: Settings, model: ModelSpec) -> Limits:
    """Resolve the limits that depend on the model; StartupError names both sides of a contradiction."""
    total = settings.max_total_tokens or min(model.max_positions, DEFAULT_TOTAL_TOKENS)
    prompt = settings.longest_prompt or total - 1
    together, prefill_together = settings.max_batch_total_tokens, settings.max_batch_prefill_tokens
    if total > model.max_positions:
        raise StartupError(f"--max-total-tokens {total} exceeds the {model.max_positions} positions of the model")
    check_order(
        {
            "max_input_tokens": prompt,
            "max_total_tokens": total,
            "max_batch_prefill_tokens": prefill_together,
            "max_batch_total_tokens": together,
        }
    )
    rows = settings.max_batch_size or (together // total if together else DEFAULT_ROWS)
    prefill_rows = rows if prefill_together else PREFILL_ROWS  # given, the budget in tokens is the bound
    if settings.deterministic:
        prefill_rows = 1  # a longer neighbour would pad the others
    return Limits(rows=rows, context=total, prefill_rows=min(rows, prefill_rows), prefill_tokens=prompt)


def options_of(settings: Settings, backend: FoundBackend) -> dict[str, Value]:
    """Return the value of every option of the chosen backend.

    Options given that are another backend's are told of, and refused where ignoring them would give other results.
    """
    declared = {knob.name: knob.default for knob in backend.options}
    given = settings.backend_options
    refused = {foreign.flag: foreign.harmless for foreign in FOREIGN_FLAGS if foreign.refused}
    for name in sorted(given.keys() - declared.keys()):
        flag = flag_of(name)
        if flag in refused and str(given[name]) not in refused[flag]:
            raise StartupError(f"{flag} is not supported by backend {backend.name}; leave it out")
        log.warning("%s has no effect: backend %s has no such option", flag, backend.name)
    return {name: given.get(name, default) for name, default in declared.items()}


def budgets_of(settings: Settings, limits: Limits) -> Budgets:
    """Return what may be computed together: as given, else room for full batches of the longest."""
    full = Budgets.of(limits)
    return Budgets(
        prefill_tokens=settings.max_batch_prefill_tokens or full.prefill_tokens,
        total_tokens=settings.max_batch_total_tokens or full.total_tokens,
        waiting_served_ratio=settings.waiting_served_ratio,
        max_waiting_tokens=settings.max_waiting_tokens,
        queue_threshold_ms=settings.queue_threshold_ms,
    )


def _planner(settings: Settings, backend: FoundBackend, model: ModelSpec) -> Planner | None:
    """Return how the shapes of a backend are planned that must know them; None for one that takes any.

    What was given for shapes is told of then, for it is heeded by nobody.
    """
    if backend.spec is None or not backend.spec.static_shapes:
        for knob in SHAPES:
            if getattr(settings, knob.name) != knob.default:
                log.warning("%s has no effect: backend %s takes batches of any shape", knob.flag, backend.name)
        return None
    ladders = Ladders.of(settings)
    return lambda limits, budgets, resumes: plan_shapes(model, limits, budgets, ladders, resumes and settings.resumes)


def _loader(
    backend: FoundBackend, wrappers: Sequence[FoundWrapper], model: ModelSpec, limits: Limits
) -> Callable[[], Hooks]:
    return lambda: loaded(backend, model, limits, (each.around(model, limits) for each in wrappers))


def _info(settings: Settings, found: FoundModel, backend: FoundBackend, limits: Limits, budgets: Budgets) -> Info:
    model, revision = found.spec, {} if found.commit is None else {"revision": found.commit}
    given = {name: str(limits.options[name]) for name in limits.options.keys() & settings.backend_options.keys()}
    numerics = {"deterministic": "true"} if settings.deterministic else {}
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
        max_batch_prefill_tokens=budgets.prefill_tokens,
        max_batch_total_tokens=budgets.total_tokens,
        waiting_served_ratio=budgets.waiting_served_ratio,
        max_waiting_tokens=budgets.max_waiting_tokens,
        validation_workers=settings.validation_workers,
        vision=model.images is not None,
        details={**backend.availability.details, **given, **revision, **numerics},
    )
