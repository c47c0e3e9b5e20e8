"""Knobs: who may call, and over what."""

from __future__ import annotations

from typing import Final

from runtime.knobs.knob import BOTH, GATEWAY, Knob

PORTS: Final = 2**16 - 1

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
