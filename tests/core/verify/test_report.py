"""The report in its three forms."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from rich.console import Console
from runtime.backend import Availability, Limits, ModelSpec, PrefillBatch
from runtime.hookspecs import hookimpl
from runtime.plugins import FoundBackend
from runtime.verify.page import page_of
from runtime.verify.report import Report, report_of
from runtime.verify.table import print_report
from runtime.verify.verification import Finding, Question
from support.faults import FAULTS, load
from support.verifying import LIMITS, Verifier, cpu, plan_of

CASES = ("text", "one-picture", "late-joins")


def report(model: ModelSpec, finding: Finding, **question: Any) -> Report:
    found = [
        FoundBackend(name, "a-plugin", "1.2", "~=1.0", "<b>", Availability(True, details={"device": "cpu"}), None)
        for name in ("tested<i>", "oracle")
    ]
    asked = Question("tested<i>", "oracle", model, LIMITS, {}, 240, plan_of(model), CASES, **question)
    return report_of(asked, finding, "demo", *found)


def printed(each: Report) -> str:
    out = io.StringIO()
    print_report(each, Console(file=out, width=110))
    return out.getvalue()


@pytest.fixture(scope="module")
def right(model: ModelSpec, verifier: Verifier) -> Report:
    return report(model, verifier.verify(cpu, torch.bfloat16, cases=CASES))


@pytest.fixture(scope="module")
def wrong(model: ModelSpec, verifier: Verifier) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        FAULTS["swapped_heads"].make(patch)
        return report(model, verifier.verify(load, torch.float32, cases=CASES))


def test_json_tells_everything(right: Report) -> None:
    """Grounds, and for each case its stages and tokens."""
    facts = json.loads(right.json())
    assert facts["ok"] is True
    assert facts["first_divergence"] is None
    assert [case["name"] for case in facts["cases"]] == list(CASES)
    picture = {stage["stage"]: stage for stage in facts["cases"][1]["stages"]}
    assert next(iter(picture)) == "pixels"
    assert all(0 < stage["ratio"] < 4 for stage in picture.values())
    assert picture["decode logits"]["kl_max"] > 0
    assert facts["cases"][1]["tokens"]["compared"] == 5
    grounds = facts["grounds"]
    assert grounds["model"]["digest"]
    assert grounds["backend"]["version"] == "1.2"
    assert grounds["judged"] == {"dtype": "bfloat16", "noise_dtype": "bfloat16", "multiple": 4.0, "seed": 0}
    assert grounds["plan"]["shapes"] > 0
    assert len(facts["digest"]) == 64


def test_digest_follows_from_what_is_told(model: ModelSpec, right: Report) -> None:
    """The same for the same, another for another seed or another error."""
    assert report(model, right.finding).digest == right.digest
    assert report(model, right.finding, seed=1).digest != right.digest
    assert report(model, replace(right.finding, dtype="float16")).digest != right.digest


def test_table_of_a_right_backend(right: Report) -> None:
    """Names, no divergence, and the digest to cite."""
    text = printed(right)
    assert "tested<i> against oracle on demo: no divergence" in text
    assert "rounding to bfloat16" in text
    assert f"report {right.digest}" in text
    assert all(name in text for name in CASES)


def test_table_of_a_wrong_backend(wrong: Report) -> None:
    """The layer where it begins, and the layers around it."""
    text = printed(wrong)
    assert "first divergence at decoder.2, in case text, row in slot 0, position 1: error" in text
    assert "layers in case text: decoder.1 " in text
    assert "FAULT: case" in text


def test_flips_are_listed_and_cut(wrong: Report) -> None:
    """Those that rounding explains least come first; most of them are counted only."""
    text = printed(wrong)
    assert text.count("FAULT: ") == 5
    assert " more tokens that differ" in text


@pytest.mark.parametrize("kind", ["right", "wrong"])
def test_page_is_complete_and_alone(kind: str, request: pytest.FixtureRequest) -> None:
    """Well-formed, with a plot for each stage of each case, text escaped, and nothing fetched."""
    each: Report = request.getfixturevalue(kind)
    page = page_of(each)
    root = ET.fromstring(page.removeprefix("<!doctype html>"))
    stages = [stage for case in (*each.finding.verdict.cases, *each.finding.verdict.layers) for stage in case.stages]
    assert len(list(root.iter("svg"))) == len(stages)
    assert "tested&lt;i&gt;" in page
    assert "http" not in page
    assert each.digest in page
    assert len(list(root.iter("polyline"))) == 2 * len(stages)
    marked = [figure for figure in root.iter("figure") if figure.get("class") == "fault"]
    assert len(marked) == sum(not stage.ok for stage in stages)


class Mute:
    """A backend with wrong shapes and no numbers, around a right one."""

    def __init__(self, model: ModelSpec, limits: Limits, dtype: torch.dtype) -> None:
        inner = cpu(model, limits, dtype)
        self.prefill, self.concatenate, self.decode = inner.prefill, inner.concatenate, inner.decode
        self.inner = inner

    @hookimpl
    def stages(self, batch: PrefillBatch) -> Mapping[str, torch.Tensor]:
        right = self.inner.stages(batch, layers=False)
        return {"embeddings": right["embeddings"] * float("nan"), "decoder": right["decoder"][:, 1:]}


@pytest.mark.parametrize("form", [lambda each: each.json(), page_of, printed], ids=["json", "page", "table"])
def test_what_is_infinite_can_be_told(form: Callable[[Report], str], model: ModelSpec, verifier: Verifier) -> None:
    """Numbers that are none, and tensors of another shape."""
    told = form(report(model, verifier.verify(Mute, torch.float32, cases=("text",))))
    assert "NaN" not in told
    assert "Infinity" not in told
    assert "embeddings" in told


def test_cases_that_were_not_run_are_told(text_model: ModelSpec, verifier: Verifier) -> None:
    """With the reason, in every form."""
    other = replace(verifier, model=text_model, known={})
    each = report(text_model, other.verify(cpu, torch.float32, cases=("text", "one-picture")))
    assert "one-picture was not run: the model sees no pictures" in printed(each)
    assert "not run: the model sees no pictures" in page_of(each)
    assert json.loads(each.json())["cases"][1]["left_out"] == "the model sees no pictures"
