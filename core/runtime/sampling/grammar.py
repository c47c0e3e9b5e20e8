"""JSON schemas and regular expressions -> matchers.

The work is done by the library llguidance, an extra of this package. A JSON text has at most one space after a comma
or a colon and none elsewhere: white space without bound is where models get lost, and a bounded schema gives a bounded
reply. A regular expression has the syntax of Rust's crate regex and must match the whole reply.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from runtime.errors import InvalidRequest
from runtime.runtime import Grammar, GrammarKind
from runtime.sampling.matcher import Matcher

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

LONGEST_GRAMMAR: Final = 64 * 1024
"""Bytes of a grammar's text."""
MOST_COMPILED: Final = 16
"""Compiled grammars kept, refusals included."""
MASK_THREADS: Final = 2
"""Threads that work out masks while the device computes."""

_JSON_STYLE: Final[JsonCompileOptions] = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}


class GrammarCompiler:
    """Compiles grammars for one tokenizer and keeps the last ones. Safe to use from several threads."""

    def __init__(self, tokenizer: str, eos_ids: Iterable[int]) -> None:
        """`tokenizer` is the text of tokenizer.json; it is read when the first grammar comes."""
        self._tokenizer_text = tokenizer
        self._eos_ids = sorted(eos_ids)
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[Grammar, LLMatcher | InvalidRequest] = OrderedDict()
        self._pool = ThreadPoolExecutor(MASK_THREADS, thread_name_prefix="grammar")

    def compile(self, grammar: Grammar) -> Matcher:
        """Return a matcher at the start of the grammar; blocks, so never call it on the event loop.

        An unknown grammar is first compiled for trial in a child process, for at most a second of processor time;
        bounds are the size of the text, the trial, and the library's limits in `rehearsal`. Raises InvalidRequest.
        """
        tokenizer = self._loaded()
        prototype = self._known(grammar)
        if prototype is None:
            try:
                prototype = _prototype(grammar, tokenizer)
            except InvalidRequest as refusal:
                prototype = refusal
            self._keep(grammar, prototype)
        if isinstance(prototype, InvalidRequest):
            raise InvalidRequest(prototype.message)
        return Matcher(prototype.deep_copy(), self._pool, self._closing(tokenizer))

    def close(self) -> None:
        """End the threads; matchers are of no use from then on."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _loaded(self) -> LLTokenizer:
        try:
            from llguidance import LLTokenizer
        except ImportError:
            raise InvalidRequest(
                "`grammar` needs a package that this server lacks; its operator can install it with"
                " pip install 'vlm-runtime[grammar]'"
            ) from None
        with self._lock:
            if self._tokenizer is None:
                try:
                    self._tokenizer = LLTokenizer(self._tokenizer_text, eos_token=self._eos_ids)
                except ValueError:  # no byte level, or no end of sequence that the tokenizer knows
                    raise InvalidRequest("`grammar` cannot be followed with the tokenizer of this model") from None
            return self._tokenizer

    def _known(self, grammar: Grammar) -> LLMatcher | InvalidRequest | None:
        with self._lock:
            if grammar in self._compiled:
                self._compiled.move_to_end(grammar)
            return self._compiled.get(grammar)

    def _keep(self, grammar: Grammar, prototype: LLMatcher | InvalidRequest) -> None:
        with self._lock:
            self._compiled[grammar] = prototype
            if len(self._compiled) > MOST_COMPILED:
                self._compiled.popitem(last=False)

    def _closing(self, tokenizer: LLTokenizer) -> bytes:
        mask = bytearray((tokenizer.vocab_size + 31) // 32 * 4)
        for id in self._eos_ids:
            mask[id // 8] |= 1 << id % 8
        return bytes(mask)


def _prototype(grammar: Grammar, tokenizer: LLTokenizer) -> LLMatcher:
    from llguidance import LLMatcher

    from runtime.sampling.rehearsal import Verdict, limits, rehearsed

    notation = _notation(grammar)
    verdict, reason = rehearsed(notation)
    if verdict is Verdict.TOO_COSTLY:
        raise InvalidRequest(_too_complex(grammar))
    if verdict is Verdict.REFUSED:
        raise InvalidRequest(_refusal(grammar, reason))
    matcher = LLMatcher(tokenizer, notation, log_level=0, limits=limits())
    if not matcher.is_error():
        matcher.compute_bitmask()  # the first mask is the dearest, and copies profit from it
    if matcher.is_error():
        raise InvalidRequest(_too_complex(grammar))
    return matcher


def _notation(grammar: Grammar) -> str:
    """Translate to the library's own notation; the text is not understood yet."""
    from llguidance import LLMatcher

    try:
        size = len(grammar.value.encode())
    except UnicodeEncodeError:
        raise InvalidRequest("`grammar` holds half of a surrogate pair; send whole Unicode characters") from None
    if size > LONGEST_GRAMMAR:
        raise InvalidRequest(f"`grammar` must have at most {LONGEST_GRAMMAR} bytes, got {size}")
    if grammar.kind is GrammarKind.REGEX:
        return LLMatcher.grammar_from_regex(grammar.value)
    try:
        return LLMatcher.grammar_from_json_schema(grammar.value, overrides=_JSON_STYLE)
    except ValueError:
        raise InvalidRequest(
            "`grammar` is no JSON object, or nests deeper than 128 levels; send a JSON schema"
        ) from None


def _too_complex(grammar: Grammar) -> str:
    return f"`grammar`: the {_kind(grammar)} is too complex for this server; simplify it"


def _refusal(grammar: Grammar, reason: str) -> str:
    """Say what can be wrong; of the library's words only the keywords it names, which are the user's own, are told."""
    if grammar.kind is GrammarKind.REGEX:
        return (
            "`grammar`: the regular expression is malformed, matches nothing, is too complex, or uses look-around or"
            " back-references, which are not supported"
        )
    if named := re.search(r"Unimplemented keys: (\[.*\])", reason):
        return f"`grammar`: the JSON schema uses keywords that are not supported: {', '.join(json.loads(named[1]))}"
    return (
        "`grammar`: the JSON schema is malformed, contradicts itself, is too complex, or uses a feature that is not"
        " supported, such as remote references, oneOf or not"
    )


def _kind(grammar: Grammar) -> str:
    return "regular expression" if grammar.kind is GrammarKind.REGEX else "JSON schema"
