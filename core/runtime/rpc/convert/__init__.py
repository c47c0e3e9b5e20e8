"""Protobuf messages <-> the dataclasses of `runtime.runtime`; the only package that knows both.

`*_from` functions read a message, `*_message` functions make one. Reading raises InvalidRequest naming the field.
"""

from __future__ import annotations

from runtime.rpc.convert.prompt import tokenization_from, tokenization_message
from runtime.rpc.convert.reply import delta_from, delta_message
from runtime.rpc.convert.request import request_from, request_message
from runtime.rpc.convert.state import (
    batch_from,
    batch_ids,
    batch_message,
    health_from,
    health_message,
    info_from,
    info_message,
    progress_from,
    progress_message,
)

__all__ = [
    "batch_from",
    "batch_ids",
    "batch_message",
    "delta_from",
    "delta_message",
    "health_from",
    "health_message",
    "info_from",
    "info_message",
    "progress_from",
    "progress_message",
    "request_from",
    "request_message",
    "tokenization_from",
    "tokenization_message",
]
