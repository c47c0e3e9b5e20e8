"""Settings, a model folder and a backend put together, or refused with the reason."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runtime import __version__, demo
from runtime.backend import Availability, BackendSpec, Knob, Limits
from runtime.budgets import Budgets
from runtime.config import Settings
from runtime.errors import BackendRefused, InvalidRequest, ModelRefused, StartupError
from runtime.local import LocalRuntime
from runtime.model import FoundModel
from runtime.plugins import FoundBackend
from runtime.runtime import (
    FinishReason,
    GenerateRequest,
    ImagePart,
    Readiness,
    StoppingParameters,
    TextPart,
    TokensPart,
)
from runtime.serve.assembly import budgets_of, build_runtime, limits_of, model_of, options_of
from support.arithmetic import ArithmeticBackend
from support.plugin import install_plugin
from support.serving import MODEL, ids, reply


def settings(**given: Any) -> Settings:
    """The arithmetic backend and the demo model, unless something else is given."""
    return Settings.of(**{"model_id": "demo", "backend": "arithmetic", **given})


@asynccontextmanager
async def built(**given: Any) -> AsyncIterator[LocalRuntime]:
    """A runtime of these settings that is loaded."""
    runtime = build_runtime(settings(**given), FoundModel(MODEL, None))
    try:
        await asyncio.wrap_future(runtime.engine.loaded)
        yield runtime
    finally:
        await runtime.aclose()


@pytest.fixture
def _arithmetic(arithmetic_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the backend known."""
    monkeypatch.syspath_prepend(arithmetic_plugin)


def limits(positions: int = 1000, **given: Any) -> Limits:
    """What the settings come to for a model with so many positions."""
    return limits_of(settings(**given), replace(MODEL, max_positions=positions))


def test_limits_of_the_model() -> None:
    """What is left to default follows from the model's positions."""
    assert limits() == Limits(rows=8, context=1000, prefill_rows=4, prefill_tokens=999)
    assert limits(positions=32768) == Limits(rows=8, context=4096, prefill_rows=4, prefill_tokens=4095)


def test_limits_of_the_operator() -> None:
    """Given values are taken as they are; a prefill has no more rows than there are."""
    given = limits(max_total_tokens=600, max_input_tokens=500, max_batch_size=2)
    assert given == Limits(rows=2, context=600, prefill_rows=2, prefill_tokens=500)
    assert limits(max_input_tokens=500).context == 1000
    assert limits(max_total_tokens=2) == Limits(rows=8, context=2, prefill_rows=4, prefill_tokens=1)
    assert limits(positions=32768, max_total_tokens=8192).prefill_tokens == 8191


def test_limits_of_the_guide() -> None:
    """Its command computes four prompts together, and decodes four sequences."""
    guide = settings(
        max_input_tokens=4096, max_batch_prefill_tokens=16384, max_total_tokens=8192, max_batch_total_tokens=32768
    )
    found = limits_of(guide, replace(MODEL, max_positions=32768))
    assert found == Limits(rows=4, context=8192, prefill_rows=4, prefill_tokens=4096)
    assert budgets_of(guide, found) == Budgets(prefill_tokens=16384, total_tokens=32768)


def test_rows_of_the_budgets() -> None:
    """As many as fit at their longest; the operator's own number wins; prefills have no more rows than there are."""
    assert limits(max_total_tokens=100, max_batch_total_tokens=399).rows == 3
    assert limits(max_total_tokens=100, max_batch_total_tokens=399, max_batch_size=6).rows == 6
    assert limits(max_total_tokens=100, max_batch_prefill_tokens=2 * 99).prefill_rows == 8, "tokens are the bound"
    assert limits(max_total_tokens=100, max_batch_prefill_tokens=20 * 99).prefill_rows == 8
    assert limits(max_input_length=500).prefill_tokens == 500


def test_budgets_of_the_settings() -> None:
    """Room for full batches unless given; the rest as it is."""
    given = settings(waiting_served_ratio=1.5, max_waiting_tokens=3, queue_threshold_ms=0)
    assert budgets_of(given, Limits(rows=2, context=100, prefill_rows=2, prefill_tokens=50)) == Budgets(
        prefill_tokens=100, total_tokens=200, waiting_served_ratio=1.5, max_waiting_tokens=3, queue_threshold_ms=0
    )


ABACUS = FoundBackend(
    "abacus",
    "beads",
    "1.0",
    "~=1.0",
    "",
    Availability(True),
    BackendSpec(
        "abacus",
        "",
        "~=1.0",
        lambda: Availability(True),
        lambda model, limits: ArithmeticBackend(model.vocabulary, limits),
        options=(Knob("beads", "BEADS", int, 10, ""), Knob("wire", "WIRE", str, None, "")),
    ),
)


def test_options_of_the_backend() -> None:
    """Each that it declares, given or not."""
    assert options_of(settings(backend_options={"beads": 7}), ABACUS) == {"beads": 7, "wire": None}
    assert options_of(settings(), replace(ABACUS, spec=None)) == {}


def test_options_of_other_backends(caplog: pytest.LogCaptureFixture) -> None:
    """Are told to have no effect, and not given to this one."""
    given = settings(backend_options={"wire": "thin", "threads": 2, "dtype": "float32"})
    assert options_of(given, ABACUS) == {"beads": 10, "wire": "thin"}
    assert [record.getMessage() for record in caplog.records] == [
        "--dtype has no effect: backend abacus has no such option",
        "--threads has no effect: backend abacus has no such option",
    ]


def test_option_of_another_backend_that_cannot_be_ignored() -> None:
    """One of those that TGI has and that would give other results, unless it asks for what is done anyway."""
    with pytest.raises(StartupError, match="--quantize is not supported by backend abacus; leave it out"):
        options_of(settings(backend_options={"quantize": "int8"}), ABACUS)
    assert "kv_cache_dtype" not in options_of(settings(backend_options={"kv_cache_dtype": "auto"}), ABACUS)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"max_batch_prefill_tokens": 998},
            "--max-batch-prefill-tokens 998 must be at least --max-input-tokens 999",
        ),
        ({"max_batch_total_tokens": 999}, "--max-batch-total-tokens 999 must be at least --max-total-tokens 1000"),
        ({"max_total_tokens": 1001}, "--max-total-tokens 1001 exceeds the 1000 positions of the model"),
        (
            {"max_total_tokens": 600, "max_input_tokens": 600},
            "--max-input-tokens 600 must be below --max-total-tokens 600",
        ),
        ({"max_input_tokens": 1000}, "--max-input-tokens 1000 must be below --max-total-tokens 1000"),
    ],
)
def test_contradiction_names_both_values(given: dict[str, int], told: str) -> None:
    """Whether the other one was given or follows from the model."""
    with pytest.raises(StartupError) as error:
        limits(**given)
    assert error.value.message == told


def test_model_of_the_settings(tmp_path: Path) -> None:
    """The name of the bundled model is short for its folder; a folder has no commit."""
    shutil.copytree(demo.MODEL, tmp_path / "llava")
    assert model_of(settings()) == FoundModel(MODEL, None)
    assert model_of(settings(model_id=str(tmp_path / "llava"))).spec.path == tmp_path / "llava"


@pytest.mark.anyio
@pytest.mark.usefixtures("_arithmetic")
async def test_commit_of_the_model_is_told() -> None:
    """Where it came from the hub."""
    runtime = build_runtime(settings(), FoundModel(MODEL, "1" * 40))
    assert (await runtime.info()).details["revision"] == "1" * 40
    await runtime.aclose()


@pytest.mark.anyio
@pytest.mark.usefixtures("_arithmetic")
async def test_a_runtime_that_answers() -> None:
    """Text goes in and the tokens of the rule come out; the facts are those of the settings."""
    request = GenerateRequest((TextPart("What shape is green?"),), stopping=StoppingParameters(4))
    async with built(max_total_tokens=100, max_batch_size=3, max_concurrent_requests=5) as runtime:
        assert ids(await reply(runtime, request)) == [640, 680, 460, 620]
        info = await runtime.info()
    assert (info.model_id, info.backend, info.backend_version, info.device) == ("demo", "arithmetic", "1.0", "cpu")
    assert (info.max_total_tokens, info.max_input_tokens, info.max_batch_size) == (100, 99, 3)
    assert (info.max_concurrent_requests, info.version, info.vision) == (5, __version__, True)


@pytest.mark.anyio
@pytest.mark.usefixtures("_arithmetic")
async def test_ids_in_place_of_text() -> None:
    """Both ways; the ids that a tokenizer made give the same reply."""
    request = GenerateRequest((TextPart("What shape is green?"),), stopping=StoppingParameters(4))
    async with built() as runtime:
        prompt = [token.id for token in (await runtime.tokenize(request)).tokens]
    written = replace(request, parts=(TextPart(",".join(map(str, prompt))),))
    async with built(skip_tokenizer=True) as runtime:
        answer = await reply(runtime, written)
        with pytest.raises(InvalidRequest, match="token ids"):
            await reply(runtime, request)
    assert ids(answer) == [640, 680, 460, 620]
    assert answer.completion is not None
    assert answer.completion.text == "".join(token.text for token in answer.tokens) == ",640,680,460,620"


@pytest.mark.anyio
@pytest.mark.usefixtures("_arithmetic")
async def test_end_of_sequence_can_be_ignored() -> None:
    """For every request, not only those that ask for it."""
    request = GenerateRequest((TokensPart((300,)),), stopping=StoppingParameters(3))
    reasons = []
    for ignored in (False, True):
        async with built(ignore_eos=ignored) as runtime:
            completion = (await reply(runtime, request)).completion
            assert completion is not None
            reasons.append(completion.finish_reason)
    assert reasons == [FinishReason.EOS_TOKEN, FinishReason.LENGTH]


PICTURE = (demo.PICTURES / "tall.png").read_bytes()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "given",
    [{"max_image_bytes": len(PICTURE) - 1}, {"max_image_pixels": 100}, {"max_images": 0}],
    ids=lambda given: next(iter(given)),
)
@pytest.mark.usefixtures("_arithmetic")
async def test_settings_for_pictures_are_enforced(given: dict[str, int]) -> None:
    """A picture that is fine by default is refused by each of the three limits."""
    request = GenerateRequest((ImagePart(PICTURE),))
    async with built() as runtime:
        assert (await runtime.tokenize(request)).tokens
    async with built(**given) as runtime:
        with pytest.raises(InvalidRequest, match=f"{next(iter(given.values()))}"):
            await runtime.tokenize(request)


@pytest.mark.anyio
@pytest.mark.usefixtures("_arithmetic")
async def test_setting_for_stop_texts_is_enforced() -> None:
    """One more than the limit is refused."""
    request = GenerateRequest((TextPart("a"),), stopping=StoppingParameters(4, ("b", "c")))
    async with built(max_stop_sequences=1) as runtime:
        with pytest.raises(InvalidRequest, match="`stop` supports up to 1 texts, got 2"):
            await reply(runtime, request)


@pytest.mark.anyio
async def test_unknown_backend() -> None:
    """Known before anything is loaded."""
    with pytest.raises(BackendRefused, match="there is no backend 'abacus'"):
        build_runtime(settings(backend="abacus"), FoundModel(MODEL, None))


BROKEN = {
    "config.json": ("{", "config.json"),
    "tokenizer.json": ("{}", "tokenizer.json"),
    "tokenizer_config.json": ("[", "tokenizer_config.json"),
    "preprocessor_config.json": ("{", "preprocessor_config.json"),
    "model.safetensors": (None, "safetensors"),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("file", "content", "told"), [(file, *case) for file, case in BROKEN.items()])
@pytest.mark.usefixtures("_arithmetic")
async def test_broken_model_folder(file: str, content: str | None, told: str, tmp_path: Path) -> None:
    """The file is named, the place of the folder is not, and the message is one line."""
    shutil.copytree(demo.MODEL, tmp_path / "broken")
    if content is None:
        (tmp_path / "broken" / file).unlink()
    else:
        (tmp_path / "broken" / file).write_text(content)
    given = settings(model_id=str(tmp_path / "broken"))
    with pytest.raises(ModelRefused) as error:
        build_runtime(given, model_of(given))
    assert told in error.value.message
    assert str(tmp_path) not in error.value.message
    assert "\n" not in error.value.message


LOADERS = {
    "raises": (
        "fail(ValueError('bad\\n  weights'))",
        "backend raises could not load the model: ValueError: bad weights",
    ),
    "refuses": (
        "fail(BackendRefused('tensor a is missing'))",
        "backend refuses could not load the model: tensor a is missing",
    ),
    "exits": ("fail(SystemExit(7))", "backend exits could not load the model: SystemExit: 7"),
    "nothing": ("None", "backend nothing has no hook `prefill`; did you forget @hookimpl?"),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "loader", "told"), [(name, *case) for name, case in LOADERS.items()])
async def test_backend_that_does_not_load(
    name: str, loader: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is in `loaded` and in the health, as one line that names the backend."""
    source = f"""
from runtime import hookimpl
from runtime.backend import Availability, BackendSpec
from runtime.errors import BackendRefused

def fail(error):
    raise error

@hookimpl
def runtime_backends():
    return [BackendSpec("{name}", "", "~=1.0", lambda: Availability(True), lambda model, limits: {loader})]
"""
    monkeypatch.syspath_prepend(install_plugin(tmp_path, name, f"{name}_loader", source))
    runtime = build_runtime(settings(backend=name), FoundModel(MODEL, None))
    try:
        with pytest.raises(BackendRefused) as error:
            await asyncio.wrap_future(runtime.engine.loaded)
        assert error.value.message == told
        health = await runtime.health()
    finally:
        await runtime.aclose()
    assert (health.readiness, health.message) == (Readiness.FAILED, told)
