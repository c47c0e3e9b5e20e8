"""Messages of protocol buffers that hypothesis makes up from their descriptors."""

from __future__ import annotations

import struct
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st
from runtime.v1 import messages_pb2
from runtime.v3 import generate_pb2

REQUESTS: dict[str, Any] = {"v1": messages_pb2.Request, "v3": generate_pb2.Request}
SINGLE = st.integers(0, 2**32 - 1).map(lambda bits: struct.unpack("<f", struct.pack("<I", bits))[0])
VALUES: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_FLOAT: SINGLE | st.sampled_from([0.5, 1.0]),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(0, 3),
}


def messages_of(protocol: str) -> st.SearchStrategy[bytes]:
    """Requests of `v1` or `v3`, on the wire."""
    request = REQUESTS[protocol]
    return _fields(request.DESCRIPTOR).map(lambda fields: request(**fields).SerializeToString())


def _fields(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the fields of a message, at most one of each choice."""
    optional = {field.name: _values(field) for field in descriptor.fields}
    return st.fixed_dictionaries({}, optional=optional)


def _values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        single: st.SearchStrategy[Any] = st.deferred(lambda: _fields(field.message_type))
    elif field.type == FieldDescriptor.TYPE_BYTES:
        single = st.binary(max_size=5)
    elif field.type == FieldDescriptor.TYPE_STRING:
        single = st.text(max_size=5) | st.sampled_from(["![](a)", "a" * 300])
    else:
        single = VALUES[field.cpp_type]
    return st.lists(single, max_size=3) if field.is_repeated else single
