"""Every knob once: flag, environment name, type, default, meaning, who reads it.

Commands take their options from this table. Values are resolved first (flag, else environment, else default) and frozen
in `Settings` after. Imports nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Literal

Reader = Literal["gateway", "worker"]


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting an operator can turn."""

    name: str
    """Field of `Settings`; the flag is the same with dashes."""
    environment: str
    type: type[str] | type[int] | type[float]
    default: str | int | float | None
    """None: derived from the model, or off."""
    meaning: str
    readers: tuple[Reader, ...]
    required: bool = False
    lowest: int = 1
    """Bounds of a number, both included."""
    highest: int = 2**30

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


BOTH: Final[tuple[Reader, ...]] = ("gateway", "worker")
GATEWAY: Final[tuple[Reader, ...]] = ("gateway",)
WORKER: Final[tuple[Reader, ...]] = ("worker",)

PORTS: Final = 2**16 - 1

KNOBS: Final = (
    Knob("model_id", "MODEL_ID", str, None, "Model folder, or `demo` for the bundled model.", WORKER, required=True),
    Knob("backend", "RUNTIME_BACKEND", str, "cpu_reference", "Backend; see `runtime backends`.", WORKER),
    # Not HOSTNAME, which containers set to their own name.
    Knob("hostname", "RUNTIME_HOSTNAME", str, "0.0.0.0", "Address to listen on.", GATEWAY),  # noqa: S104
    Knob("port", "PORT", int, 3000, "Port of the HTTP API; 0 for any free one.", GATEWAY, lowest=0, highest=PORTS),
    Knob(
        "grpc_port",
        "GRPC_PORT",
        int,
        None,
        "Port of the public gRPC API, 0 for any free one; not served when absent.",
        GATEWAY,
        lowest=0,
        highest=PORTS,
    ),
    Knob(
        "max_input_tokens",
        "MAX_INPUT_TOKENS",
        int,
        None,
        "Tokens of the longest prompt; one less than the total by default.",
        WORKER,
    ),
    Knob(
        "max_total_tokens",
        "MAX_TOTAL_TOKENS",
        int,
        None,
        "Tokens of prompt and reply together; the model's positions, at most 4096, by default.",
        WORKER,
        lowest=2,
    ),
    Knob("max_batch_size", "MAX_BATCH_SIZE", int, 8, "Sequences that decode together.", WORKER),
    Knob(
        "max_concurrent_requests",
        "MAX_CONCURRENT_REQUESTS",
        int,
        128,
        "Requests in the server at once; one more is refused.",
        WORKER,
    ),
    Knob("max_stop_sequences", "MAX_STOP_SEQUENCES", int, 4, "Stop texts of one request.", WORKER, lowest=0),
    Knob("max_images", "MAX_IMAGES", int, 16, "Pictures of one request.", WORKER, lowest=0),
    Knob("max_image_bytes", "MAX_IMAGE_BYTES", int, 20 * 2**20, "Size of one encoded picture, bytes.", WORKER),
    Knob("max_image_pixels", "MAX_IMAGE_PIXELS", int, 50_000_000, "Pixels of one picture, before decoding.", WORKER),
    Knob("payload_limit", "PAYLOAD_LIMIT", int, 16_000_000, "Size of one request, bytes.", BOTH),
    Knob(
        "lease_idle_seconds",
        "LEASE_IDLE_SECONDS",
        float,
        300.0,
        "Seconds after which rows leased by step operations are given back.",
        WORKER,
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved value of every knob."""

    model_id: str
    backend: str
    hostname: str
    port: int
    grpc_port: int | None
    max_input_tokens: int | None
    max_total_tokens: int | None
    max_batch_size: int
    max_concurrent_requests: int
    max_stop_sequences: int
    max_images: int
    max_image_bytes: int
    max_image_pixels: int
    payload_limit: int
    lease_idle_seconds: float

    @classmethod
    def of(cls, **given: str | int | float | None) -> Settings:
        """Take the given values, and defaults for the rest."""
        defaults = {knob.name: knob.default for knob in KNOBS}
        return cls(**{**defaults, **given})  # type: ignore[arg-type]

    def arguments(self, reader: Reader) -> list[str]:
        """Return the command line that gives `reader` its share of these settings."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return [
            word
            for knob in KNOBS
            if reader in knob.readers and values[knob.name] is not None
            for word in (knob.flag, str(values[knob.name]))
        ]
