"""Replies that follow a grammar, and grammars that are refused."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence

import jsonschema
import pytest
import torch
from runtime import demo
from runtime.errors import InvalidRequest
from runtime.runtime import Grammar, GrammarKind, SamplingParameters
from runtime.sampling import grammar as grammar_module
from runtime.sampling.grammar import LONGEST_GRAMMAR, GrammarCompiler
from runtime.sampling.matcher import Matcher
from runtime.sampling.sampler import Sampler
from support.sampled import PlainRow, imagined_logits
from support.serving import MODEL, TOKENIZER

VOCABULARY = 832
EOS = 2
TOKENIZER_TEXT = (demo.MODEL / "tokenizer.json").read_text()
ID: dict[str, int] = json.loads(TOKENIZER_TEXT)["model"]["vocab"]
SCHEMAS = [
    {"type": "boolean"},
    {"enum": ["cat", 7, None, "ünïcode ☃"]},
    {"type": "integer", "minimum": -12, "maximum": 300},
    {"type": "array", "items": {"type": "string", "maxLength": 6}, "minItems": 2, "maxItems": 4},
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 12},
            "at": {"type": "string", "pattern": "^[A-C]{2}[0-9]?$"},
            "box": {"type": "array", "prefixItems": [{"type": "boolean"}, {"enum": [1, 2]}], "items": False},
            "more": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/pair"}]},
        },
        "required": ["name", "more"],
        "additionalProperties": False,
        "$defs": {"pair": {"type": "object", "properties": {"x": {"type": "integer", "maximum": 9, "minimum": 0}}}},
    },
]
SCHEMAS[4]["$defs"]["pair"]["additionalProperties"] = False  # type: ignore[index]
REGEXES = [
    "a",
    "(yes|no|perhaps)",
    r"\d{4}-[01]\d-[0-3]\d",
    "[^a-z]{1,9}",
    r"(?:red|green) (?:circle|square)s?( and (?:red|green) (?:circle|square)s?){0,3}\.",
    "ä?(☃|🙂){2,5}",
    r"^[a-f0-9]{8}(-[a-f0-9]{4}){2}$",
    ".{3,30}",
]


def regex(value: str) -> Grammar:
    return Grammar(GrammarKind.REGEX, value)


def schema(value: object) -> Grammar:
    return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(value))


def permitted(mask: bytes) -> set[int]:
    return {id for id in range(8 * len(mask)) if mask[id // 8] >> (id % 8) & 1}


def follow(matcher: Matcher, ids: Sequence[int]) -> None:
    for id in ids:
        assert id in permitted(matcher.mask())
        matcher.advance(id)


def written(compiler: GrammarCompiler, grammar: Grammar, seed: int) -> str:
    """Let chance write a reply to its end, and return its text after `=`, so that leading spaces show."""
    row = PlainRow(SamplingParameters(do_sample=True), seed, prompt=[seed], matcher=compiler.compile(grammar))
    sampler = Sampler()
    while EOS not in row.generated:
        assert len(row.generated) < 500, TOKENIZER.decode(row.generated, False)
        row.generated += sampler.choose([row], imagined_logits(row, VOCABULARY)[None]).ids
        assert isinstance(row.matcher, Matcher)
        row.matcher.advance(row.generated[-1])
    equals = TOKENIZER.encode("=", add_special_tokens=False)
    before, text = (TOKENIZER.decode([*equals, *ids], False) for ids in ([], row.generated[:-1]))
    return text[len(before) :]


@pytest.mark.parametrize("value", SCHEMAS, ids=lambda value: str(sorted(value)))
def test_any_reply_fits_the_schema(compiler: GrammarCompiler, value: dict[str, object]) -> None:
    """Whatever the scores, 25 replies parse and validate."""
    for seed in range(25):
        jsonschema.validate(json.loads(written(compiler, schema(value), seed)), value)


@pytest.mark.parametrize("value", REGEXES)
def test_any_reply_matches_the_regular_expression(compiler: GrammarCompiler, value: str) -> None:
    """Whatever the scores, 25 replies match from start to end."""
    for seed in range(25):
        text = written(compiler, regex(value), seed)
        assert re.fullmatch(value, text), text


def test_json_holds_no_white_space_without_bound(compiler: GrammarCompiler) -> None:
    """One space after a comma or a colon may be, so that models can write as they learnt; no other."""
    grammar = schema({"type": "array", "items": {"enum": [1]}, "minItems": 2, "maxItems": 2})
    for text, fits in {"[1,1]": True, "[1, 1]": True, "[1,  1]": False, "[ 1,1]": False, "[1 ,1]": False}.items():
        matcher = compiler.compile(grammar)
        ids = [ID[char] for char in text]
        followed = 0
        while followed < len(ids) and ids[followed] in permitted(matcher.mask()):
            matcher.advance(ids[followed])
            followed += 1
        assert (followed == len(ids)) == fits, text


def test_complete_grammar_allows_the_end_only(compiler: GrammarCompiler) -> None:
    """After the last character nothing but the end may come, even after the end itself."""
    matcher = compiler.compile(regex("ab"))
    follow(matcher, [ID["a"]])
    assert not matcher.is_finished
    follow(matcher, [ID["b"]])
    assert matcher.is_finished
    for _ in range(3):
        assert permitted(matcher.mask()) == {EOS}
        matcher.advance(EOS)


def test_end_is_one_of_several_when_more_may_come(compiler: GrammarCompiler) -> None:
    """In an optional place both the end and the next character may come."""
    matcher = compiler.compile(regex("a+"))
    assert EOS not in permitted(matcher.mask())
    follow(matcher, [ID["a"]])
    assert EOS in permitted(matcher.mask())
    assert not matcher.is_finished


def test_special_and_padding_ids_are_never_allowed(compiler: GrammarCompiler) -> None:
    """A grammar of any text allows no control token, no picture and no id without a token."""
    allowed = permitted(compiler.compile(regex("(.|\n)*")).mask())
    assert not allowed & {0, 1, MODEL.image_token_id, *range(802, VOCABULARY)}
    assert EOS in allowed


def test_every_end_of_sequence_is_allowed() -> None:
    """Models may have several."""
    compiler = GrammarCompiler(TOKENIZER_TEXT, {EOS, 801})
    assert permitted(compiler.compile(regex("")).mask()) == {EOS, 801}
    compiler.close()


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        (regex("(?=a)b"), "look-around"),
        (regex("["), "malformed"),
        (regex("(" * 5000), "malformed"),
        (regex("[^\\x00-\\x{10FFFF}]"), "matches nothing"),
        (regex("\ud800"), "surrogate"),
        (regex("x" * (LONGEST_GRAMMAR + 1)), "at most 65536 bytes, got 65537"),
        (Grammar(GrammarKind.JSON_SCHEMA, "{"), "no JSON"),
        (Grammar(GrammarKind.JSON_SCHEMA, "[" * 30_000), "nests deeper"),
        (Grammar(GrammarKind.JSON_SCHEMA, "7"), "no JSON object"),
        (schema({"type": "cat"}), "JSON schema is malformed"),
        (schema({"enum": []}), "contradicts itself"),
        (schema({"$ref": "http://example.org/schema"}), "remote references"),
        (schema({"type": "array", "uniqueItems": True}), "not supported: uniqueItems"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_grammar_is_refused(compiler: GrammarCompiler, grammar: Grammar, words: str) -> None:
    """The reason is told, in our words."""
    with pytest.raises(InvalidRequest, match=words) as refused:
        compiler.compile(grammar)
    assert len(refused.value.message) < 250


COSTLY = [
    schema({"type": "integer", "allOf": [{"multipleOf": p} for p in (97, 89, 83)]}),
    schema({"type": "object", "patternProperties": {f"^a{i}$": {} for i in range(400)}}),
]


@pytest.mark.parametrize("grammar", COSTLY, ids=["multipleOf", "patternProperties"])
def test_costly_grammar_is_given_up(compiler: GrammarCompiler, grammar: Grammar) -> None:
    """What would take minutes is refused soon, and at once when it is sent again."""
    started = time.monotonic()
    with pytest.raises(InvalidRequest, match="too complex for this server"):
        compiler.compile(grammar)
    first = time.monotonic() - started
    with pytest.raises(InvalidRequest, match="too complex for this server"):
        compiler.compile(grammar)
    assert first < 12
    assert time.monotonic() - started - first < 0.1


def test_grammar_that_grows_too_complex_ends_its_reply(compiler: GrammarCompiler) -> None:
    """When the limits are met in the middle of a reply the mask is the end alone, and `advance` says why."""
    matcher = compiler.compile(regex("x(a?){500}a{500}"))
    follow(matcher, [ID["x"]])
    assert permitted(matcher.mask()) == {EOS}
    with pytest.raises(InvalidRequest, match="became too complex to follow for this reply"):
        matcher.advance(EOS)


def test_compiled_grammars_are_kept_and_bounded(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same grammar is compiled once while it is among the last ones; matchers of it are independent."""
    compiled: list[str] = []
    compile_one = grammar_module._prototype
    monkeypatch.setattr(
        grammar_module, "_prototype", lambda grammar, tok: compiled.append(grammar.value) or compile_one(grammar, tok)
    )
    monkeypatch.setattr(grammar_module, "MOST_COMPILED", 2)
    own = GrammarCompiler(TOKENIZER_TEXT, {EOS})
    first, second = own.compile(regex("ab")), own.compile(regex("ab"))
    follow(first, [ID["a"]])
    follow(second, [ID["a"]])
    for value in ("b", "c", "ab"):
        own.compile(regex(value))
    own.close()
    assert compiled == ["ab", "b", "c", "ab"]


def test_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the command that installs it."""
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(InvalidRequest, match=r"pip install 'vlm-runtime\[grammar\]'"):
        GrammarCompiler("{}", {EOS}).compile(regex("a"))


def test_tokenizer_that_cannot_be_followed_is_told() -> None:
    """A tokenizer the library does not understand refuses grammars, not the server."""
    with pytest.raises(InvalidRequest, match="tokenizer of this model"):
        GrammarCompiler("{}", {EOS}).compile(regex("a"))


def test_padded_ids_are_masked_in_the_scores(compiler: GrammarCompiler) -> None:
    """Scores that favour the padding cannot choose it."""
    logits = torch.zeros(1, VOCABULARY)
    logits[0, 802:] = 100.0
    (id,) = Sampler().choose([PlainRow(matcher=compiler.compile(regex("a")))], logits).ids
    assert id in permitted(compiler.compile(regex("a")).mask())
