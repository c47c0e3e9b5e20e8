"""What `runtime verify` found, with everything it depends on, as data: for JSON, the table and the page."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

import runtime
from runtime.backend import CONTRACT_VERSION, ShapePlan
from runtime.plugins import FoundBackend
from runtime.verify.verdict import MULTIPLE, CaseVerdict, FlipVerdict, StageVerdict
from runtime.verify.verification import Finding, Question


@dataclass(frozen=True, slots=True)
class Report:
    """A verdict that can be cited."""

    finding: Finding
    grounds: Mapping[str, Any]
    """Model, backend, oracle, versions, limits, plan: what the same result takes again."""
    facts: Mapping[str, Any]
    """All there is to tell, without infinite numbers."""

    @property
    def digest(self) -> str:
        """Hex digest of everything told."""
        return str(self.facts["digest"])

    def json(self) -> str:
        return json.dumps(self.facts, indent=2) + "\n"


def report_of(
    question: Question, finding: Finding, model_id: str, backend: FoundBackend, oracle: FoundBackend
) -> Report:
    grounds = _grounds(question, finding, model_id, backend, oracle)
    verdict = finding.verdict
    first = verdict.first
    told: dict[str, Any] = {
        "ok": verdict.ok,
        "first_divergence": None if first is None else {**asdict(first), "text": str(first)},
        "grounds": grounds,
        "stages_told": finding.tells_stages,
        "cases": [_case(case) for case in verdict.cases],
        "layers": [_case(case) for case in verdict.layers],
    }
    facts: dict[str, Any] = _finite(told)
    return Report(finding, grounds, {"digest": _digest(facts), **facts})


def _grounds(
    question: Question, finding: Finding, model_id: str, backend: FoundBackend, oracle: FoundBackend
) -> dict[str, Any]:
    model, limits = question.model, question.limits
    return {
        "runtime": runtime.__version__,
        "contract": CONTRACT_VERSION,
        "torch": str(torch.__version__),
        "model": {
            "id": model_id,
            "digest": model.digest,
            "architecture": model.architecture,
            "dtype": model.dtype,
        },
        "backend": {**_plugin(backend), "options": dict(limits.options), "loaded": dict(finding.details)},
        "oracle": _plugin(oracle),
        "limits": {
            "rows": limits.rows,
            "context": limits.context,
            "prefill_rows": limits.prefill_rows,
            "prefill_tokens": limits.prefill_tokens,
        },
        "plan": None if question.plan is None else _plan(question.plan),
        "judged": {
            "dtype": finding.dtype,
            "noise_dtype": finding.noise_dtype,
            "multiple": MULTIPLE,
            "seed": question.seed,
        },
    }


def _plugin(backend: FoundBackend) -> dict[str, Any]:
    return {
        "name": backend.name,
        "distribution": backend.distribution,
        "version": backend.version,
        "details": dict(backend.availability.details),
    }


def _plan(plan: ShapePlan) -> dict[str, Any]:
    shapes = asdict(plan)
    return {"shapes": sum(map(len, shapes.values())), "digest": _digest(shapes)}


def _case(case: CaseVerdict) -> dict[str, Any]:
    return {
        "name": case.name,
        "ok": case.ok,
        "left_out": case.left_out,
        "failed": case.failed,
        "stages": [_stage(stage) for stage in case.stages],
        "tokens": {
            "compared": case.compared,
            "agreed": case.agreed,
            "flips": [_flip(each) for each in case.flips],
        },
    }


def _stage(stage: StageVerdict) -> dict[str, Any]:
    return {**asdict(stage), "ratio": stage.ratio}


def _flip(each: FlipVerdict) -> dict[str, Any]:
    return {**asdict(each.flip), "allowed": each.allowed, "is_noise": each.is_noise}


def _finite(value: Any) -> Any:
    """Return the same with null for what is infinite, which JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
