"""From measures to a verdict."""

from __future__ import annotations

import math

import pytest
from runtime.verify.measures import Flip, Measure, Place
from runtime.verify.run import DECODE_LOGITS, PREFILL_LOGITS, Outcome
from runtime.verify.verdict import MULTIPLE, TOKENS, Bar, CaseVerdict, first_divergence, judged, order

BF16 = Bar.of("bfloat16", "float32")


def measure(*errors: float, most: float = 0.0, flips: tuple[Flip, ...] = (), mismatch: str = "") -> Measure:
    places = [Place(0, None, position) for position in range(len(errors))]
    kl = [0.0] * len(errors)
    return Measure(places, list(errors), most=most, flips=list(flips), kl=kl, mismatch=mismatch)


def judge(mine: dict[str, Measure], noise: dict[str, Measure], bar: Bar = BF16) -> CaseVerdict:
    tested, oracle = Outcome({"text": mine}), Outcome({"text": noise})
    (case,) = judged(["text"], tested, oracle, bar)
    return case


def test_as_large_as_the_noise_is_rounding() -> None:
    """And up to the stated multiple of it."""
    case = judge({"decoder": measure(0.02, 0.04)}, {"decoder": measure(0.01, 0.01)})
    (stage,) = case.stages
    assert case.ok
    assert stage.ratio == pytest.approx(4.0)
    assert first_divergence((case,)) is None


def test_beyond_the_multiple_is_a_fault() -> None:
    """Named with the first place that is beyond it."""
    case = judge({"decoder": measure(0.01, 0.05, 0.06)}, {"decoder": measure(0.01, 0.01, 0.01)})
    first = first_divergence((case,))
    assert first is not None
    assert (first.stage, first.case, first.place) == ("decoder", "text", Place(0, None, 1))
    assert str(first).startswith("decoder, in case text, row in slot 0, position 1: error 0.045 of the signal and 0.06")


def test_many_small_errors_are_one_large() -> None:
    """All together may be beyond what is allowed where no place is; then the worst is named."""
    case = judge({"vision": measure(*[0.3] * 9, 0.31)}, {"vision": measure(*[0.01] * 9, 0.1)})
    (stage,) = case.stages
    assert not stage.ok
    assert stage.at == Place(0, None, 9)


def test_noise_is_at_least_that_of_one_number() -> None:
    """Half the distance of two numbers, relative to them: 2 ** -8 in bfloat16."""
    assert judge({"pixels": measure(4 * 2**-8)}, {"pixels": measure(0.0)}).ok
    assert not judge({"pixels": measure(4.1 * 2**-8)}, {"pixels": measure(0.0)}).ok


def test_noise_is_at_least_the_usual() -> None:
    """A case that rounds luckily is judged by the others of its stage."""
    tested = Outcome({"a": {"decoder": measure(0.2)}, "b": {"decoder": measure(0.0)}})
    noise = Outcome({"a": {"decoder": measure(0.01)}, "b": {"decoder": measure(0.1)}})
    usual = math.sqrt((0.01**2 + 0.1**2) / 2)
    a, _ = judged(["a", "b"], tested, noise, BF16)
    assert a.stages[0].allowed_rms == pytest.approx(MULTIPLE * usual)
    assert a.ok


def test_a_reference_that_rounds_alike_is_as_far_off() -> None:
    """The difference of two independent errors is √2 times one."""
    assert Bar.of("float32", "float32").multiple == pytest.approx(MULTIPLE * math.sqrt(2))
    assert Bar.of("bfloat16", "float32").multiple == MULTIPLE


def test_first_in_the_computation_before_first_case() -> None:
    """Later stages are wrong because earlier ones are."""
    right, wrong = measure(0.0), measure(1.0)
    noise = {"decoder": right, "vision": right, PREFILL_LOGITS: right}
    tested = Outcome({"a": {"decoder": wrong}, "b": {PREFILL_LOGITS: wrong, "vision": wrong}})
    first = first_divergence(judged(["a", "b"], tested, Outcome({"a": noise, "b": noise}), BF16))
    assert first is not None
    assert (first.stage, first.case) == ("vision", "b")


def test_stages_are_in_the_order_of_computation() -> None:
    """Layers by number, before what they make up."""
    stages = ["pixels", "vision.0", "vision.9", "vision.10", "vision", "projector", "embeddings", "decoder.1"]
    stages += ["decoder.2", "decoder.10", "decoder", PREFILL_LOGITS, DECODE_LOGITS, TOKENS]
    assert sorted(sorted(stages), key=order) == stages


def test_flips_are_judged_by_their_margin() -> None:
    """Against twice the largest score error that is allowed."""
    place = Place(0, None, 0)
    for margin, is_ok in ((0.8, True), (0.81, False)):
        flip = Flip(place, 3, 4, margin)
        case = judge({DECODE_LOGITS: measure(0.0, flips=(flip,))}, {DECODE_LOGITS: measure(0.0, most=0.1)})
        assert case.ok is is_ok
        assert (case.compared, case.agreed) == (1, 0)
        first = first_divergence((case,))
        assert (first is None) is is_ok
    assert first is not None
    assert first.stage == TOKENS
    assert "token 4 in the place of 3, which the oracle prefers by 0.81" in first.reason


def test_another_shape_diverges() -> None:
    """With the shapes as the reason."""
    case = judge({"vision": measure(mismatch="has shape [2], not [3]")}, {"vision": measure(0.1)})
    first = first_divergence((case,))
    assert first is not None
    assert first.reason == "has shape [2], not [3]"


def test_a_failure_is_a_divergence() -> None:
    """The last in order, as a stage that diverges tells more."""
    tested = Outcome(failed={"text": "backend x failed in decode"})
    (case,) = judged(["text"], tested, Outcome(), BF16)
    first = first_divergence((case,))
    assert not case.ok
    assert first is not None
    assert (first.stage, first.reason) == ("failure", "backend x failed in decode")


def test_what_is_no_number_diverges() -> None:
    """Infinity is beyond every bar, and where it begins is told."""
    case = judge({"decoder": measure(0.0, math.inf, math.inf)}, {"decoder": measure(0.1, 0.1, 0.1)})
    assert case.stages[0].at == Place(0, None, 1)
    assert not case.ok
