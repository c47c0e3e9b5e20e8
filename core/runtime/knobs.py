"""Every knob once: flag, environment name, type, default, meaning, who reads it. Imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Reader = Literal["gateway", "worker"]
Value = str | int | float | bool | tuple[str, ...] | None


def flag_of(name: str) -> str:
    """Return the flag of a knob."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting an operator can turn."""

    name: str
    """Field of `Settings`; the flag is the same with dashes."""
    environment: str
    type: type[str] | type[int] | type[float] | type[bool]
    default: Value
    """None: derived from other values or the model, or off."""
    meaning: str
    readers: tuple[Reader, ...] = ("worker",)
    required: bool = False
    lowest: int = 1
    """Bounds of a number, both included."""
    highest: int = 2**30
    repeatable: bool = False
    """Whether the flag may be given several times; the environment separates values with commas."""
    secret: bool = False
    """Whether the value is never printed."""
    choices: tuple[str, ...] = ()
    """The words a text may be; empty for any."""

    @property
    def flag(self) -> str:
        return flag_of(self.name)

    @property
    def is_number(self) -> bool:
        return self.type in (int, float)


BOTH: Final[tuple[Reader, ...]] = ("gateway", "worker")
GATEWAY: Final[tuple[Reader, ...]] = ("gateway",)
WORKER: Final[tuple[Reader, ...]] = ("worker",)

PORTS: Final = 2**16 - 1

AUTO: Final = "auto"
"""The backend that is preferred on this machine."""

MODEL: Final = (
    Knob(
        "model_id",
        "MODEL_ID",
        str,
        None,
        "Model folder, or id of a model on the Hugging Face hub, or `demo` for the bundled model.",
        WORKER,
        required=True,
    ),
    Knob("revision", "REVISION", str, None, "Branch, tag or commit on the hub; `main` by default.", WORKER),
    Knob(
        "huggingface_hub_cache",
        "HUGGINGFACE_HUB_CACHE",
        str,
        None,
        "Folder of fetched models; by default what HF_HUB_CACHE or HF_HOME say, else /data where it can be written, "
        "else ~/.cache/huggingface/hub.",
        WORKER,
    ),
    Knob(
        "backend",
        "RUNTIME_BACKEND",
        str,
        AUTO,
        "Backend; see `runtime backends`. `auto` takes the best that this machine can run.",
        WORKER,
    ),
    Knob(
        "wrap",
        "RUNTIME_WRAP",
        str,
        (),
        "Installed wrapper that sees every call of the backend; see docs/plugins.md. May be repeated, the last is "
        "outermost; commas separate in the environment.",
        WORKER,
        repeatable=True,
    ),
)

SERVER: Final = (
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
        "api_key",
        "API_KEY",
        str,
        None,
        "Key that clients send as `Authorization: Bearer`, over HTTP and gRPC, for all but probes. Better given by its "
        "variable: process lists show flags.",
        GATEWAY,
        secret=True,
    ),
    Knob(
        "ssl_certfile",
        "RUNTIME_SSL_CERTFILE",
        str,
        None,
        "PEM file with the certificate, and those between it and its root, for TLS over HTTP and gRPC.",
        GATEWAY,
    ),
    Knob("ssl_keyfile", "RUNTIME_SSL_KEYFILE", str, None, "PEM file with the key of --ssl-certfile.", GATEWAY),
    Knob(
        "step_rpcs",
        "STEP_RPCS",
        str,
        "on",
        "Whether the public gRPC port takes step operations (Prefill, Decode and the like): `on` or `off`.",
        GATEWAY,
        choices=("on", "off"),
    ),
    Knob(
        "admin_listen",
        "ADMIN_LISTEN",
        str,
        None,
        "HOST:PORT or unix:PATH that takes step operations over gRPC in place of the public port.",
        GATEWAY,
    ),
    Knob(
        "max_concurrent_per_client",
        "MAX_CONCURRENT_PER_CLIENT",
        int,
        None,
        "Requests of one client address at work at once; one more is refused. No limit by default.",
        GATEWAY,
    ),
    Knob(
        "cors_allow_origin",
        "CORS_ALLOW_ORIGIN",
        str,
        (),
        "Origin whose pages may call; all by default. May be repeated; commas separate in the environment.",
        GATEWAY,
        repeatable=True,
    ),
    Knob(
        "messages_api_enabled",
        "MESSAGES_API_ENABLED",
        bool,
        False,
        "Take conversations rather than prompts on /invocations.",
        GATEWAY,
    ),
    Knob(
        "compute_type",
        "COMPUTE_TYPE",
        str,
        None,
        "Value of the header x-compute-type; the kind of device by default.",
        GATEWAY,
    ),
    Knob(
        "step_timeout",
        "STEP_TIMEOUT",
        float,
        60.0,
        "Seconds of one step of the device, or without an answer of the worker, after which the worker is killed and "
        "started again; 0 never.",
        BOTH,
        lowest=0,
    ),
    Knob(
        "drain_seconds",
        "DRAIN_SECONDS",
        float,
        30.0,
        "Seconds that running replies have to end after SIGTERM or SIGINT; a second signal ends at once.",
        BOTH,
        lowest=0,
    ),
    Knob("json_output", "JSON_OUTPUT", bool, False, "Log each line as JSON.", BOTH),
    Knob(
        "otlp_endpoint",
        "OTLP_ENDPOINT",
        str,
        None,
        "Collector that traces are sent to, by OTLP over gRPC: http://HOST:PORT; none are made when absent.",
        BOTH,
    ),
    Knob(
        "otlp_service_name",
        "OTLP_SERVICE_NAME",
        str,
        "text-generation-inference.router",
        "Name of the service in traces.",
        BOTH,
    ),
)

BATCHING: Final = (
    Knob(
        "max_input_tokens",
        "MAX_INPUT_TOKENS",
        int,
        None,
        "Tokens of the longest prompt; one less than the total by default.",
        WORKER,
    ),
    Knob("max_input_length", "MAX_INPUT_LENGTH", int, None, "Old name of --max-input-tokens.", WORKER),
    Knob(
        "max_total_tokens",
        "MAX_TOTAL_TOKENS",
        int,
        None,
        "Tokens of prompt and reply together; the model's positions, at most 4096, by default.",
        WORKER,
        lowest=2,
    ),
    Knob(
        "max_batch_size",
        "MAX_BATCH_SIZE",
        int,
        None,
        "Sequences that decode together; by default --max-batch-total-tokens / --max-total-tokens, else 8.",
        WORKER,
    ),
    Knob(
        "max_batch_prefill_tokens",
        "MAX_BATCH_PREFILL_TOKENS",
        int,
        None,
        "Tokens of the prompts computed together, after padding: n prompts take n times the longest; by default room "
        "for 4 of the longest.",
        WORKER,
    ),
    Knob(
        "max_batch_total_tokens",
        "MAX_BATCH_TOTAL_TOKENS",
        int,
        None,
        "Tokens of all prompts and replies that run together; by default room for every sequence at its longest.",
        WORKER,
    ),
    Knob(
        "waiting_served_ratio",
        "WAITING_SERVED_RATIO",
        float,
        0.3,
        "New requests interrupt running ones once they are so many times as many.",
        WORKER,
        lowest=0,
        highest=1000,
    ),
    Knob(
        "max_waiting_tokens",
        "MAX_WAITING_TOKENS",
        int,
        20,
        "Tokens after which running requests are interrupted for any new one that fits.",
        WORKER,
        lowest=0,
    ),
    Knob(
        "queue_threshold_ms",
        "QUEUE_THRESHOLD_MS",
        int,
        120,
        "Milliseconds after which a waiting request goes before shorter ones; 0 keeps the order of arrival.",
        WORKER,
        lowest=0,
    ),
    Knob(
        "max_concurrent_requests",
        "MAX_CONCURRENT_REQUESTS",
        int,
        128,
        "Requests in the server at once; one more is refused.",
        WORKER,
    ),
    Knob(
        "max_queue",
        "MAX_QUEUE",
        int,
        None,
        "Requests that may wait for a sequence to end; one more is refused. No limit of its own by default.",
        WORKER,
        lowest=0,
    ),
    Knob(
        "max_queue_seconds",
        "MAX_QUEUE_SECONDS",
        float,
        None,
        "Refuse a request that would wait longer, in seconds, by what the server foresees; none by default.",
        WORKER,
        lowest=0,
    ),
    Knob(
        "prefix_reuse",
        "PREFIX_REUSE",
        bool,
        True,
        "Compute only the rest of a prompt that begins like an earlier one whose slot is free.",
        WORKER,
    ),
    Knob(
        "prefill_chunk",
        "PREFILL_CHUNK",
        int,
        None,
        "Tokens of a prompt that are computed at once, in turns with the running replies; all by default.",
        WORKER,
    ),
    Knob(
        "validation_workers",
        "VALIDATION_WORKERS",
        int,
        2,
        "Threads that tokenize prompts, and processes that decode pictures.",
        WORKER,
        highest=1024,
    ),
    Knob(
        "lease_idle_seconds",
        "LEASE_IDLE_SECONDS",
        float,
        300.0,
        "Seconds after which rows leased by step operations are given back.",
        WORKER,
    ),
)

SHAPES: Final = (
    Knob(
        "pad_sequence_to_multiple_of",
        "PAD_SEQUENCE_TO_MULTIPLE_OF",
        int,
        128,
        "Pad prompts to a multiple, in tokens, and at most to --max-input-tokens.",
        WORKER,
    ),
    Knob(
        "prefill_batch_bucket_size",
        "PREFILL_BATCH_BUCKET_SIZE",
        int,
        4,
        "Round the prompts of one prefill up to a multiple, as far as the limits go.",
        WORKER,
    ),
    Knob(
        "batch_bucket_size",
        "BATCH_BUCKET_SIZE",
        int,
        8,
        "Round the sequences that decode together up to a multiple, as far as the limits go.",
        WORKER,
    ),
    Knob(
        "bucket_strategy",
        "BUCKET_STRATEGY",
        str,
        "linear",
        "How buckets grow: `linear`: every multiple; `exponential`: lengths by a quarter, rows twofold; `file`: as "
        "--bucket-file lists them.",
        WORKER,
        choices=("linear", "exponential", "file"),
    ),
    Knob("bucket_file", "BUCKET_FILE", str, None, "JSON file with the buckets of the strategy `file`.", WORKER),
    Knob("warmup_enabled", "WARMUP_ENABLED", bool, True, "Run every shape before the first request.", WORKER),
)
"""How a backend of static shapes has batches padded; no other backend heeds them."""

REQUESTS: Final = (
    Knob("payload_limit", "PAYLOAD_LIMIT", int, 16_000_000, "Size of one request, bytes.", BOTH),
    Knob("max_best_of", "MAX_BEST_OF", int, 2, "Replies of which `best_of` chooses.", GATEWAY),
    Knob("max_stop_sequences", "MAX_STOP_SEQUENCES", int, 4, "Stop texts of one request.", BOTH, lowest=0),
    Knob("max_top_n_tokens", "MAX_TOP_N_TOKENS", int, 5, "Candidates told with each token.", GATEWAY, lowest=0),
    Knob(
        "max_client_batch_size",
        "MAX_CLIENT_BATCH_SIZE",
        int,
        4,
        "Replies of one request: its prompts times `n`.",
        GATEWAY,
    ),
    Knob("max_images", "MAX_IMAGES", int, 16, "Pictures of one request.", WORKER, lowest=0),
    Knob("max_image_bytes", "MAX_IMAGE_BYTES", int, 20 * 2**20, "Size of one encoded picture, bytes.", WORKER),
    Knob("max_image_pixels", "MAX_IMAGE_PIXELS", int, 50_000_000, "Pixels of one picture, before decoding.", WORKER),
    Knob(
        "image_url_policy",
        "IMAGE_URL_POLICY",
        str,
        "public",
        "From where pictures are fetched: `public`: public addresses, and hosts of --image-url-allow; `listed`: only "
        "those; `none`.",
        WORKER,
        choices=("public", "listed", "none"),
    ),
    Knob(
        "image_url_allow",
        "IMAGE_URL_ALLOW",
        str,
        (),
        "HOST or HOST:PORT from which pictures are fetched even if it is private; a proxy of the environment is used "
        "for these only. May be repeated; commas separate.",
        WORKER,
        repeatable=True,
    ),
    Knob(
        "ignore_eos",
        "TEXT_GENERATION_SERVER_IGNORE_EOS_TOKEN",
        bool,
        False,
        "Never end a reply at the end-of-sequence token, as benchmarks want.",
        WORKER,
    ),
    Knob(
        "skip_tokenizer",
        "SKIP_TOKENIZER_IN_TGI",
        bool,
        False,
        "Take prompts and give replies as token ids with commas between them.",
        WORKER,
    ),
)

TRUST: Final = (
    Knob(
        "deterministic",
        "RUNTIME_DETERMINISTIC",
        bool,
        False,
        "Compute every row in the same shapes whatever else runs, so that a reply does not depend on its neighbours; "
        "slower; see docs/deterministic.md.",
        WORKER,
    ),
    Knob(
        "shadow",
        "RUNTIME_SHADOW",
        str,
        None,
        "Backend that computes some prompts and replies again, to compare: cpu_reference. Its weights and one row come "
        "on top, in the memory of the host, and the pictures of the last prompt of every slot; see docs/shadow.md.",
        WORKER,
    ),
    Knob(
        "shadow_rate",
        "RUNTIME_SHADOW_RATE",
        float,
        0.01,
        "Share of the prompts that the shadow follows; those that it has no time for are left out.",
        WORKER,
        lowest=0,
        highest=1,
    ),
)

GROUPS: Final = {
    "Model": MODEL,
    "Server": SERVER,
    "Batching": BATCHING,
    "Shapes": SHAPES,
    "Requests": REQUESTS,
    "Trust": TRUST,
}

KNOBS: Final = tuple(knob for knobs in GROUPS.values() for knob in knobs)
