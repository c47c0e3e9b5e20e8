"""What operators of TGI set and this runtime does not heed: told at the start, or refused where silence would mislead.

The one file of core that spells names of devices: they are part of what others called their switches.
Sources: the launcher's flags of TGI 2.3.1 to 3.3, and the table of variables in the guide of TGI-Gaudi.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Final

from runtime.knobs import KNOBS


@dataclass(frozen=True, slots=True)
class ForeignFlag:
    """A flag of TGI's launcher that this runtime does not serve."""

    flag: str
    reason: str
    takes_value: bool = True
    refused: bool = False
    """Whether ignoring it would give other results than the operator asked for."""
    harmless: tuple[str, ...] = ()
    """Values that ask for what this runtime does anyway."""

    @property
    def environment(self) -> str | None:
        """Its twin; ENV is too common a name to be read as TGI's."""
        return None if self.flag == "--env" else self.flag.removeprefix("--").replace("-", "_").upper()


OWN_GRAPHS: Final = "a backend that records graphs has options of its own for them"
NO_KERNEL: Final = "the backend chooses its own attention kernel"
ONE_DEVICE: Final = "a model is served on one device"
NO_SHARDS: Final = "there is one worker and no process group"
NO_ADAPTERS: Final = "adapters are not applied"
NO_PROFILER: Final = "there is no profiler"
NO_TUNNEL: Final = "no tunnel is opened; put a proxy in front of the server"

FOREIGN_FLAGS: Final = (
    ForeignFlag("--num-shard", ONE_DEVICE, refused=True, harmless=("1",)),
    ForeignFlag("--sharded", ONE_DEVICE, refused=True, harmless=("false", "False")),
    ForeignFlag("--quantize", "weights are served as the checkpoint has them; choose another checkpoint", refused=True),
    ForeignFlag("--kv-cache-dtype", "the cache has the dtype of the model", refused=True, harmless=("auto",)),
    ForeignFlag("--speculate", "there is no speculative decoding", refused=True, harmless=("0",)),
    ForeignFlag("--lora-adapters", NO_ADAPTERS, refused=True),
    ForeignFlag("--rope-scaling", "positions are scaled as config.json says", refused=True),
    ForeignFlag("--rope-factor", "positions are scaled as config.json says", refused=True),
    ForeignFlag("--tokenizer-config-path", "the model's own tokenizer_config.json is used", refused=True),
    ForeignFlag("--trust-remote-code", "code of models is never run", takes_value=False, refused=True),
    ForeignFlag("--cuda-graphs", OWN_GRAPHS),
    ForeignFlag("--cuda-memory-fraction", "the backend decides on its memory"),
    ForeignFlag("--disable-custom-kernels", NO_KERNEL, takes_value=False),
    ForeignFlag("--shard-uds-path", NO_SHARDS),
    ForeignFlag("--master-addr", NO_SHARDS),
    ForeignFlag("--master-port", NO_SHARDS),
    ForeignFlag("--weights-cache-override", "use --huggingface-hub-cache"),
    ForeignFlag("--watermark-gamma", "it is 0.5", harmless=("0.5",)),
    ForeignFlag("--watermark-delta", "it is 2.0", harmless=("2", "2.0")),
    ForeignFlag("--disable-grammar-support", "grammars cannot be turned off", takes_value=False),
    ForeignFlag("--enable-prefill-logprobs", "requests choose with decoder_input_details", takes_value=False),
    ForeignFlag("--usage-stats", "no usage is reported to anybody", harmless=("off",)),
    ForeignFlag("--prometheus-port", "metrics are on /metrics of --port"),
    ForeignFlag("--graceful-termination-timeout", "running replies get 5 seconds"),
    ForeignFlag("--max-image-fetch-size", "--max-image-bytes bounds every picture, fetched or not"),
    ForeignFlag("--ngrok", NO_TUNNEL, takes_value=False),
    ForeignFlag("--ngrok-authtoken", NO_TUNNEL),
    ForeignFlag("--ngrok-edge", NO_TUNNEL),
    ForeignFlag("--env", "see `runtime env`", takes_value=False),
)

FOREIGN_VARIABLES: Final = {
    "BASE_IMAGE_TOKENS": "prompts of text get buckets of their own length; see --pad-sequence-to-multiple-of",
    "QUANT_CONFIG": "weights are served as the checkpoint has them",
    "USE_PREFIX_CACHING": "see --prefix-reuse",
    "ATTENTION": NO_KERNEL,
    "LOG_LEVEL": "everything from INFO on is logged",
    "DUMP_STACK": "errors never hold a stack",
    "GRAPH_VISUALIZATION": OWN_GRAPHS,
    "DBG_TRACE_FILENAME": NO_PROFILER,
    "PROF_STEP": NO_PROFILER,
}
"""Variables of TGI without a flag."""

KNOWN_TO_OTHERS: Final = (
    "HF_TOKEN",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_HUB_ENABLE_HF_TRANSFER",
    "HABANA_VISIBLE_DEVICES",
    "HABANA_VISIBLE_MODULES",
    "PT_HPU_LAZY_MODE",
    "OMPI_MCA_btl_vader_single_copy_mechanism",
)
"""Variables that libraries below read, and so no misspellings of ours."""


def warnings_of(environment: Mapping[str, str], declared: Set[str] = frozenset()) -> list[str]:
    """Return a line for each variable that looks meant for us and has no effect; those of backends are `declared`.

    Flags' twins are read with the flags.
    """
    lines = []
    for name, reason in FOREIGN_VARIABLES.items():
        if environment.get(name):
            lines.append(f"{name} has no effect: {reason}")
    known = declared | frozenset(known_variables())
    for name in sorted(environment.keys() - known):
        near = next((other for other in sorted(known) if _is_near(name, other)), None)
        if near is not None:
            lines.append(f"{name} has no effect: there is no such variable; did you mean {near}?")
    return lines


def known_variables() -> Iterator[str]:
    """Yield the name of every variable that means something to us, TGI or the libraries below."""
    yield from (knob.environment for knob in KNOBS)
    yield from (flag.environment for flag in FOREIGN_FLAGS if flag.environment is not None)
    yield from FOREIGN_VARIABLES
    yield from KNOWN_TO_OTHERS


def _is_near(name: str, known: str) -> bool:
    """Whether `name` may be `known` misspelt; short names are too often something else."""
    most = 0 if len(known) < 8 else 1 if len(known) < 12 else 2
    return abs(len(name) - len(known)) <= most and _distance(name, known) <= most


def _distance(left: str, right: str) -> int:
    """Return Levenshtein's distance."""
    above: Iterable[int] = range(len(right) + 1)
    for row, letter in enumerate(left, 1):
        previous, current = list(above), [row]
        for column, other in enumerate(right, 1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (letter != other)))
        above = current
    return list(above)[-1]
