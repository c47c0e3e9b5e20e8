"""The values of the knobs: resolved first (flag, else environment, else default), frozen after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from runtime.errors import StartupError
from runtime.knobs import KNOBS, Knob, Reader, Value, flag_of

__all__ = ["KNOBS", "Knob", "Reader", "Settings", "check_order"]

ORDER: Final = (
    ("max_input_tokens", "max_batch_prefill_tokens"),
    ("max_total_tokens", "max_batch_total_tokens"),
    ("max_batch_prefill_tokens", "max_batch_total_tokens"),
)
"""The first of each pair may not exceed the second."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved value of every knob."""

    model_id: str
    revision: str | None
    huggingface_hub_cache: str | None
    backend: str
    wrap: tuple[str, ...]
    hostname: str
    port: int
    grpc_port: int | None
    api_key: str | None = field(repr=False)
    ssl_certfile: str | None
    ssl_keyfile: str | None
    step_rpcs: str
    admin_listen: str | None
    max_concurrent_per_client: int | None
    cors_allow_origin: tuple[str, ...]
    messages_api_enabled: bool
    compute_type: str | None
    step_timeout: float
    drain_seconds: float
    json_output: bool
    otlp_endpoint: str | None
    otlp_service_name: str
    max_input_tokens: int | None
    max_input_length: int | None
    max_total_tokens: int | None
    max_batch_size: int | None
    max_batch_prefill_tokens: int | None
    max_batch_total_tokens: int | None
    waiting_served_ratio: float
    max_waiting_tokens: int
    queue_threshold_ms: int
    max_concurrent_requests: int
    max_queue: int | None
    max_queue_seconds: float | None
    prefix_reuse: bool
    prefill_chunk: int | None
    validation_workers: int
    lease_idle_seconds: float
    pad_sequence_to_multiple_of: int
    prefill_batch_bucket_size: int
    batch_bucket_size: int
    bucket_strategy: str
    bucket_file: str | None
    warmup_enabled: bool
    payload_limit: int
    max_best_of: int
    max_stop_sequences: int
    max_top_n_tokens: int
    max_client_batch_size: int
    max_images: int
    max_image_bytes: int
    max_image_pixels: int
    image_url_policy: str
    image_url_allow: tuple[str, ...]
    ignore_eos: bool
    skip_tokenizer: bool
    deterministic: bool
    shadow: str | None
    shadow_rate: float
    backend_options: Mapping[str, Value] = field(default_factory=dict)
    """What was given of the options that backends declare, by their names."""

    @classmethod
    def of(cls, backend_options: Mapping[str, Value] | None = None, **given: Value) -> Settings:
        """Take the given values, and defaults for the rest."""
        defaults = {knob.name: knob.default for knob in KNOBS}
        return cls(**{**defaults, **given}, backend_options=backend_options or {})  # type: ignore[arg-type]

    @property
    def longest_prompt(self) -> int | None:
        """The tokens of the longest prompt, by whichever name they were given."""
        return self.max_input_tokens if self.max_input_length is None else self.max_input_length

    @property
    def resumes(self) -> bool:
        """Whether a prefill may continue what its slot holds, on a backend that can."""
        return self.reuses_prefixes or self.longest_part is not None

    @property
    def reuses_prefixes(self) -> bool:
        """Whether the beginning of a prompt may be what its slot held before, which is a matter of chance."""
        return self.prefix_reuse and not self.deterministic

    @property
    def longest_part(self) -> int | None:
        """The tokens of a prompt that are computed at once; None for all."""
        return None if self.deterministic else self.prefill_chunk

    def check(self) -> None:
        """Raise StartupError, which names both values, when two values contradict each other."""
        if self.max_input_tokens is not None and self.max_input_length is not None:
            raise StartupError(
                f"--max-input-tokens {self.max_input_tokens} and --max-input-length {self.max_input_length} are two "
                "names of one limit; leave out --max-input-length"
            )
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            given, missing = ("certfile", "keyfile") if self.ssl_keyfile is None else ("keyfile", "certfile")
            raise StartupError(f"--ssl-{given} is given without --ssl-{missing}; TLS needs both")
        if self.step_rpcs == "off" and self.admin_listen is not None:
            raise StartupError("--step-rpcs is off and --admin-listen is given; leave one of them out")
        if self.bucket_strategy == "file" and self.bucket_file is None:
            raise StartupError("--bucket-strategy is file; name the file with --bucket-file")
        if self.bucket_strategy != "file" and self.bucket_file is not None:
            raise StartupError(
                f"--bucket-file is given and --bucket-strategy is {self.bucket_strategy}; add --bucket-strategy file"
            )
        check_order(
            {
                "max_input_tokens": self.longest_prompt,
                "max_total_tokens": self.max_total_tokens,
                "max_batch_prefill_tokens": self.max_batch_prefill_tokens,
                "max_batch_total_tokens": self.max_batch_total_tokens,
            }
        )

    def arguments(self, reader: Reader) -> list[str]:
        """Return the command line that gives `reader` its share of these settings."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        words = [word for knob in KNOBS if reader in knob.readers for word in _words(knob.flag, values[knob.name])]
        if reader == "worker":
            words += [word for name, value in self.backend_options.items() for word in _words(flag_of(name), value)]
        return words


def check_order(values: Mapping[str, int | None]) -> None:
    """Raise StartupError when a limit exceeds one that must hold it; None is not compared."""
    prompt, total = values["max_input_tokens"], values["max_total_tokens"]
    if prompt is not None and total is not None and prompt >= total:
        raise StartupError(f"--max-input-tokens {prompt} must be below --max-total-tokens {total}")
    for lower, upper in ORDER:
        least, most = values[lower], values[upper]
        if least is not None and most is not None and least > most:
            raise StartupError(f"{_flag(upper)} {most} must be at least {_flag(lower)} {least}")


def _flag(name: str) -> str:
    return next(knob.flag for knob in KNOBS if knob.name == name)


def _words(flag: str, value: Value) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    values = value if isinstance(value, tuple) else (value,)
    return [word for one in values for word in (flag, str(one))]
