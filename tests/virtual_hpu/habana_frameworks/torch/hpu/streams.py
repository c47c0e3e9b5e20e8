"""Streams."""

from __future__ import annotations

from virtual_device.streams import Stream, StreamContext, current_stream, default_stream, set_stream, stream

__all__ = ["Stream", "StreamContext", "current_stream", "default_stream", "set_stream", "stream"]
