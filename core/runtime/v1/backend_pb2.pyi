from runtime.v1 import messages_pb2 as _messages_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WarmupRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WarmupResponse(_message.Message):
    __slots__ = ("done", "total", "prefill", "decode", "vision", "seconds")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    PREFILL_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    VISION_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    done: int
    total: int
    prefill: PrefillShape
    decode: DecodeShape
    vision: VisionShape
    seconds: float
    def __init__(self, done: _Optional[int] = ..., total: _Optional[int] = ..., prefill: _Optional[_Union[PrefillShape, _Mapping]] = ..., decode: _Optional[_Union[DecodeShape, _Mapping]] = ..., vision: _Optional[_Union[VisionShape, _Mapping]] = ..., seconds: _Optional[float] = ...) -> None: ...

class PrefillShape(_message.Message):
    __slots__ = ("rows", "length", "cached")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    rows: int
    length: int
    cached: int
    def __init__(self, rows: _Optional[int] = ..., length: _Optional[int] = ..., cached: _Optional[int] = ...) -> None: ...

class DecodeShape(_message.Message):
    __slots__ = ("rows", "context")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    rows: int
    context: int
    def __init__(self, rows: _Optional[int] = ..., context: _Optional[int] = ...) -> None: ...

class VisionShape(_message.Message):
    __slots__ = ("tiles",)
    TILES_FIELD_NUMBER: _ClassVar[int]
    tiles: int
    def __init__(self, tiles: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("id", "requests", "size", "max_tokens")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    id: int
    requests: _containers.RepeatedCompositeFieldContainer[_messages_pb2.Request]
    size: int
    max_tokens: int
    def __init__(self, id: _Optional[int] = ..., requests: _Optional[_Iterable[_Union[_messages_pb2.Request, _Mapping]]] = ..., size: _Optional[int] = ..., max_tokens: _Optional[int] = ...) -> None: ...

class PrefillRequest(_message.Message):
    __slots__ = ("batch",)
    BATCH_FIELD_NUMBER: _ClassVar[int]
    batch: Batch
    def __init__(self, batch: _Optional[_Union[Batch, _Mapping]] = ...) -> None: ...

class PrefillResponse(_message.Message):
    __slots__ = ("generations", "batch", "forward_ns", "decode_ns", "total_ns")
    GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FORWARD_NS_FIELD_NUMBER: _ClassVar[int]
    DECODE_NS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    generations: _containers.RepeatedCompositeFieldContainer[_messages_pb2.Delta]
    batch: _messages_pb2.CachedBatch
    forward_ns: int
    decode_ns: int
    total_ns: int
    def __init__(self, generations: _Optional[_Iterable[_Union[_messages_pb2.Delta, _Mapping]]] = ..., batch: _Optional[_Union[_messages_pb2.CachedBatch, _Mapping]] = ..., forward_ns: _Optional[int] = ..., decode_ns: _Optional[int] = ..., total_ns: _Optional[int] = ...) -> None: ...

class ConcatenateRequest(_message.Message):
    __slots__ = ("batches",)
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[_messages_pb2.CachedBatch]
    def __init__(self, batches: _Optional[_Iterable[_Union[_messages_pb2.CachedBatch, _Mapping]]] = ...) -> None: ...

class ConcatenateResponse(_message.Message):
    __slots__ = ("batch",)
    BATCH_FIELD_NUMBER: _ClassVar[int]
    batch: _messages_pb2.CachedBatch
    def __init__(self, batch: _Optional[_Union[_messages_pb2.CachedBatch, _Mapping]] = ...) -> None: ...

class DecodeRequest(_message.Message):
    __slots__ = ("batches",)
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[_messages_pb2.CachedBatch]
    def __init__(self, batches: _Optional[_Iterable[_Union[_messages_pb2.CachedBatch, _Mapping]]] = ...) -> None: ...

class DecodeResponse(_message.Message):
    __slots__ = ("generations", "batch", "forward_ns", "decode_ns", "total_ns")
    GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FORWARD_NS_FIELD_NUMBER: _ClassVar[int]
    DECODE_NS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    generations: _containers.RepeatedCompositeFieldContainer[_messages_pb2.Delta]
    batch: _messages_pb2.CachedBatch
    forward_ns: int
    decode_ns: int
    total_ns: int
    def __init__(self, generations: _Optional[_Iterable[_Union[_messages_pb2.Delta, _Mapping]]] = ..., batch: _Optional[_Union[_messages_pb2.CachedBatch, _Mapping]] = ..., forward_ns: _Optional[int] = ..., decode_ns: _Optional[int] = ..., total_ns: _Optional[int] = ...) -> None: ...

class FilterRequest(_message.Message):
    __slots__ = ("batch_id", "request_ids")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    request_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, batch_id: _Optional[int] = ..., request_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class FilterResponse(_message.Message):
    __slots__ = ("batch",)
    BATCH_FIELD_NUMBER: _ClassVar[int]
    batch: _messages_pb2.CachedBatch
    def __init__(self, batch: _Optional[_Union[_messages_pb2.CachedBatch, _Mapping]] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthResponse(_message.Message):
    __slots__ = ("readiness", "message", "busy_seconds", "seconds_left")
    class Readiness(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        READINESS_UNSPECIFIED: _ClassVar[HealthResponse.Readiness]
        READINESS_LOADING: _ClassVar[HealthResponse.Readiness]
        READINESS_READY: _ClassVar[HealthResponse.Readiness]
        READINESS_FAILED: _ClassVar[HealthResponse.Readiness]
        READINESS_WARMING: _ClassVar[HealthResponse.Readiness]
        READINESS_STOPPING: _ClassVar[HealthResponse.Readiness]
    READINESS_UNSPECIFIED: HealthResponse.Readiness
    READINESS_LOADING: HealthResponse.Readiness
    READINESS_READY: HealthResponse.Readiness
    READINESS_FAILED: HealthResponse.Readiness
    READINESS_WARMING: HealthResponse.Readiness
    READINESS_STOPPING: HealthResponse.Readiness
    READINESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BUSY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    readiness: HealthResponse.Readiness
    message: str
    busy_seconds: float
    seconds_left: float
    def __init__(self, readiness: _Optional[_Union[HealthResponse.Readiness, str]] = ..., message: _Optional[str] = ..., busy_seconds: _Optional[float] = ..., seconds_left: _Optional[float] = ...) -> None: ...
