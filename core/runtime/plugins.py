"""Finding backends, and the typed facade over one of them; nobody else calls a pluggy hook."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, NoReturn

import pluggy
import torch
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from runtime.backend import (
    CONTRACT_VERSION,
    Availability,
    Backend,
    BackendSpec,
    Capacity,
    DecodeBatch,
    DecodeOutput,
    Knob,
    Limits,
    ModelSpec,
    Placement,
    PrefillBatch,
    PrefillOutput,
    Prefix,
    ShapePlan,
    WarmupProgress,
)
from runtime.errors import BackendContractError, BackendError, BackendRefused, DeviceLost, NotReady
from runtime.hookspecs import PROJECT, Compute, Discovery
from runtime.knobs import AUTO

ENTRY_POINT_GROUP: Final = "runtime"
FIRST_PARTY: Final = "vlm-runtime"
REQUIRED_HOOKS: Final = ("prefill", "concatenate", "decode")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundBackend:
    """One backend of one installed plugin, usable or not."""

    name: str
    distribution: str
    version: str
    contract: str
    """Contract versions it speaks; empty when the plugin could not be asked."""
    summary: str
    availability: Availability
    spec: BackendSpec | None
    """None when it cannot be used whatever the machine: broken plugin, foreign contract, name taken."""

    @property
    def options(self) -> tuple[Knob, ...]:
        """The settings that it declares."""
        return () if self.spec is None else self.spec.options


def find_backends() -> list[FoundBackend]:
    """List every backend of every installed plugin, by name; a broken plugin is listed with the reason."""
    found: list[FoundBackend] = []
    owners: dict[str, str] = {}
    for point in _entry_points():
        for backend in _backends_of(point):
            if backend.spec is not None and backend.name in owners:
                owner = owners[backend.name]
                backend = _refused(point, backend.name, f"the name {backend.name!r} is already taken by {owner}")
            elif backend.spec is not None:
                owners[backend.name] = backend.distribution
            found.append(backend)
    return sorted(found, key=lambda backend: backend.name)


def backend_named(name: str) -> FoundBackend:
    """Return the usable backend of that name; `auto` names the one that is preferred on this machine.

    Raises BackendRefused with the reason, or with the names there are.
    """
    if name == AUTO:
        return _preferred()
    named = [backend for backend in find_backends() if backend.name == name]
    for backend in named:
        if backend.spec is not None and backend.availability.ok:
            return backend
    if named:
        raise BackendRefused(f"backend {name!r} cannot be used: {named[0].availability.reason}")
    names = ", ".join(backend.name for backend in find_backends() if backend.spec is not None)
    raise BackendRefused(f"there is no backend {name!r}; installed: {names or 'none'}; see `runtime backends`")


def _preferred() -> FoundBackend:
    """Return the usable backend of the highest preference, the first by name where two have it."""
    usable = [
        (backend.spec.preference, backend)
        for backend in find_backends()
        if backend.spec is not None and backend.availability.ok and backend.spec.preference > 0
    ]
    if not usable:
        raise BackendRefused("no backend can be used on this machine; `runtime backends` tells why")
    return max(usable, key=lambda each: each[0])[1]


def told(error: BaseException) -> str:
    """Return the type and text of a plugin's error, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _entry_points() -> list[EntryPoint]:
    """Our own plugins first, so that a stranger cannot take their names; then by name, for a stable order."""
    points = entry_points(group=ENTRY_POINT_GROUP)
    return sorted(points, key=lambda point: (_distribution(point)[0] != FIRST_PARTY, *_distribution(point), point.name))


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist is not None else ("unknown", "unknown")


def _refused(point: EntryPoint, name: str, reason: str, contract: str = "") -> FoundBackend:
    distribution, version = _distribution(point)
    return FoundBackend(name, distribution, version, contract, "", Availability(False, reason), None)


def _backends_of(point: EntryPoint) -> Iterator[FoundBackend]:
    try:
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(Discovery)
        manager.register(point.load(), point.name)
        manager.check_pending()
        specs = [spec for specs in manager.hook.runtime_backends() for spec in specs]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise anything, SystemExit included
        yield _refused(point, point.name, f"the plugin failed to load: {told(error)}")
        return
    if not specs:
        yield _refused(point, point.name, "the plugin lists no backend: it needs a hook `runtime_backends`")
    for spec in specs:
        yield _checked(point, spec)


def _checked(point: EntryPoint, spec: object) -> FoundBackend:
    if not isinstance(spec, BackendSpec):
        return _refused(point, point.name, f"`runtime_backends` listed {_kind(spec)}, not a BackendSpec")
    for name in ("name", "summary", "contract"):
        if not isinstance(text := getattr(spec, name), str):
            reason = f"`runtime_backends` listed a BackendSpec whose {name} is {_kind(text)}, not a text"
            return _refused(point, point.name, reason)
    if not isinstance(spec.preference, int):
        reason = f"`runtime_backends` listed a BackendSpec whose preference is {_kind(spec.preference)}, not a number"
        return _refused(point, spec.name, reason)
    if not (isinstance(spec.options, tuple) and all(isinstance(option, Knob) for option in spec.options)):
        return _refused(point, spec.name, "`runtime_backends` listed a BackendSpec whose options are no tuple of Knobs")
    try:
        speaks = SpecifierSet(spec.contract).contains(CONTRACT_VERSION)
    except InvalidSpecifier:
        return _refused(point, spec.name, f"its contract {spec.contract!r} is not a version specifier", spec.contract)
    if not speaks:
        reason = f"it speaks contract {spec.contract}, this runtime {CONTRACT_VERSION}; update the older of the two"
        return _refused(point, spec.name, reason, spec.contract)
    distribution, version = _distribution(point)
    return FoundBackend(spec.name, distribution, version, spec.contract, spec.summary, _probe(spec), spec)


def _probe(spec: BackendSpec) -> Availability:
    try:
        answer = spec.probe()
        if not isinstance(answer, Availability):
            return Availability(False, f"its probe answered {_kind(answer)}, not an Availability")
        return replace(answer, details={str(key): str(value) for key, value in answer.details.items()})
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise anything, SystemExit included
        return Availability(False, f"its probe failed: {told(error)}")


def loaded(found: FoundBackend, model: ModelSpec, limits: Limits, wrappers: Iterable[object] = ()) -> Hooks:
    """Load a backend; raises BackendRefused, worded for the operator. Call on the device thread."""
    assert found.spec is not None
    try:
        backend = found.spec.load(model, limits)
    except BackendRefused as refusal:
        raise BackendRefused(f"backend {found.name} could not load the model: {refusal.message}") from refusal
    except (Exception, SystemExit) as error:
        log.debug("backend %s failed to load", found.name, exc_info=True)
        raise BackendRefused(f"backend {found.name} could not load the model: {told(error)}") from error
    try:
        return Hooks(found.name, backend, model, limits, wrappers)
    except BackendError as error:
        raise BackendRefused(error.message) from error


class Hooks:
    """One loaded backend and its wrappers, as typed methods that check every answer.

    Called on the device thread only. A hook that raises is logged and becomes BackendError; a misspelt or missing
    hook, no answer or an answer of the wrong shape becomes BackendContractError. Both name backend and hook. DeviceLost
    is the end: the backend is not called again, and every later call raises it too.
    """

    def __init__(self, name: str, backend: Backend, model: ModelSpec, limits: Limits, wrappers: Iterable[object] = ()):
        self.name = name
        self.limits = limits
        self._vocabulary = model.vocabulary
        self._lost: DeviceLost | None = None
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Compute)
        try:
            self._manager.register(backend, name)
            for wrapper in wrappers:
                self._wrap(wrapper)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise BackendContractError(f"backend {name}: {' '.join(str(error).split())}") from error
        for hook in REQUIRED_HOOKS:
            if not any(found.plugin is backend for found in getattr(self._manager.hook, hook).get_hookimpls()):
                raise BackendContractError(f"backend {name} has no hook `{hook}`; did you forget @hookimpl?")

    def warmup(self, plan: ShapePlan, progress: Callable[[WarmupProgress], None]) -> None:
        """Run every shape of the plan.

        Raises BackendRefused in the backend's own words, and lets NotReady of `progress` through.
        """
        self._call("warmup", plan=plan, progress=progress)

    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        """Compute prompts; logits are [batch.shape.rows, vocabulary]."""
        output = self._call("prefill", batch=batch)
        if not isinstance(output, PrefillOutput):
            self._breach("prefill", f"answered {_kind(output)}, not a PrefillOutput")
        self._check_logits("prefill", output.logits, batch.shape.rows)
        told, wanted = output.prompt_logprobs, (batch.shape.rows, batch.shape.length)
        if told is not None and tuple(told.shape) != wanted:
            self._breach("prefill", f"answered prompt_logprobs of shape {list(told.shape)}, wanted {list(wanted)}")
        return output

    def concatenate(self, prefix: Prefix[Any], placements: Sequence[Placement]) -> None:
        """Put rows of a prefill into slots."""
        self._call("concatenate", prefix=prefix, placements=placements)

    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        """Advance the active slots by one token; logits are [batch.shape.rows, vocabulary]."""
        output = self._call("decode", batch=batch)
        if not isinstance(output, DecodeOutput):
            self._breach("decode", f"answered {_kind(output)}, not a DecodeOutput")
        self._check_logits("decode", output.logits, batch.shape.rows)
        return output

    def release(self, slots: Sequence[int]) -> None:
        """Tell the backend that these slots are free; a failure is only logged, for concatenate overwrites them."""
        with contextlib.suppress(BackendError, DeviceLost):
            self._call("release", slots=slots)

    def stages(self, batch: PrefillBatch, layers: bool = False) -> Mapping[str, torch.Tensor]:
        """Return the named intermediate tensors of a prefill; empty for a backend without the hook."""
        stages = self._call("stages", batch=batch, layers=layers)
        if stages is None:
            return {}
        if not isinstance(stages, Mapping) or not all(isinstance(each, torch.Tensor) for each in stages.values()):
            self._breach("stages", f"answered {_kind(stages)}, not a mapping of names to tensors")
        return stages

    def capacity(self) -> Capacity:
        """Return what the backend affords: its own answer, or the limits it was loaded with."""
        capacity = self._call("capacity")
        if capacity is None:
            return Capacity(self.limits.rows, self.limits.context)
        if not isinstance(capacity, Capacity):
            self._breach("capacity", f"answered {_kind(capacity)}, not a Capacity")
        if not (0 < capacity.rows <= self.limits.rows and 0 < capacity.context <= self.limits.context):
            self._breach("capacity", f"answered {capacity}, outside the limits it was given: {self.limits}")
        return replace(capacity, details={str(key): str(value) for key, value in capacity.details.items()})

    def stats(self) -> Mapping[str, float]:
        """Return the backend's counters; empty for a backend without the hook."""
        stats = self._call("stats")
        if stats is None:
            return {}
        if not isinstance(stats, Mapping) or not all(isinstance(value, int | float) for value in stats.values()):
            self._breach("stats", f"answered {_kind(stats)}, not a mapping of names to numbers")
        return stats

    def _wrap(self, wrapper: object) -> None:
        """Register what is to see every call, and may not answer one in the backend's place."""
        self._manager.register(wrapper)
        hooks = self._manager.get_hookcallers(wrapper) or []
        found = [(hook.name, found) for hook in hooks for found in hook.get_hookimpls() if found.plugin is wrapper]
        if not found:
            raise BackendContractError(f"the wrapper {type(wrapper).__name__} has no hook; did you forget @hookimpl?")
        for name, implementation in found:
            if not implementation.wrapper:
                raise BackendContractError(
                    f"the wrapper {type(wrapper).__name__} would answer {name} itself; write @hookimpl(wrapper=True)"
                )

    def _call(self, hook: str, **arguments: object) -> Any:
        if self._lost is not None:
            raise self._lost
        try:
            return getattr(self._manager.hook, hook)(**arguments)
        except DeviceLost as error:
            log.exception("backend %s lost its device in %s", self.name, hook)
            self._lost = error
            raise
        except (Exception, SystemExit) as error:
            if hook == "warmup" and isinstance(error, BackendRefused | NotReady):
                raise
            log.exception("backend %s failed in %s", self.name, hook)
            raise BackendError(f"backend {self.name} failed in {hook}; the server's log has the cause") from error

    def _check_logits(self, hook: str, logits: object, rows: int) -> None:
        wanted = (rows, self._vocabulary)
        if not isinstance(logits, torch.Tensor):
            self._breach(hook, f"answered logits of {_kind(logits)}, not a tensor")
        if not logits.is_floating_point():
            self._breach(hook, f"answered logits of {logits.dtype}, not of a floating-point type")
        if tuple(logits.shape) != wanted:
            self._breach(hook, f"answered logits of shape {list(logits.shape)}, wanted {list(wanted)}")

    def _breach(self, hook: str, what: str) -> NoReturn:
        raise BackendContractError(f"backend {self.name}: {hook} {what}")


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
