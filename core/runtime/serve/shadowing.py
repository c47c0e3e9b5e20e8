"""The shadow of a server, as its settings ask for it: `--shadow` and `--shadow-rate`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runtime.backend import Limits, ModelSpec
from runtime.config import Settings
from runtime.errors import StartupError
from runtime.plugins import FoundBackend, backend_named
from runtime.shadow.apart import JudgeApart, Plan
from runtime.shadow.comparing import Comparer
from runtime.shadow.wrapper import Shadow
from runtime.telemetry.metrics import Metrics
from runtime.verify.verification import REFERENCE_DTYPE
from runtime.wrappers import FoundWrapper


@dataclass(frozen=True, slots=True)
class Shadowing:
    """What follows, and what compares."""

    wrapper: FoundWrapper
    comparer: Comparer

    @classmethod
    def of(cls, settings: Settings, model: ModelSpec, limits: Limits, metrics: Metrics) -> Shadowing | None:
        """Return None without `--shadow`; raises StartupError for a backend that cannot be one. Loads nothing."""
        if settings.shadow is None:
            return None
        found = backend_named(settings.shadow)
        options = {knob.name: settings.backend_options.get(knob.name, knob.default) for knob in found.options}
        _check(found)
        alone = replace(limits, rows=1, prefill_rows=1, prefill_tokens=limits.context, options=options)
        plan = Plan(found.name, model, alone)
        comparer = Comparer(lambda: JudgeApart(plan), metrics)

        def wrap(model: ModelSpec, _limits: Limits) -> Shadow:
            comparer.start()
            return Shadow(model, settings.shadow_rate, comparer)

        return cls(FoundWrapper("shadow", wrap), comparer)


def _check(found: FoundBackend) -> None:
    if found.spec is not None and found.spec.static_shapes:
        raise StartupError(f"--shadow {found.name} must know its shapes beforehand; take --shadow cpu_reference")
    if all(knob.name != REFERENCE_DTYPE for knob in found.options):
        raise StartupError(
            f"--shadow {found.name} has no option {REFERENCE_DTYPE}, so its rounding cannot be measured; take --shadow "
            "cpu_reference"
        )
