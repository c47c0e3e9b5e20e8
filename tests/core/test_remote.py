"""`RemoteRuntime` and `LocalRuntime` are the same to a front end."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import grpc
import pytest
from runtime.errors import (
    BackendError,
    InvalidRequest,
    NotReady,
    Overloaded,
    RuntimeServiceError,
    TemplateError,
    UnknownBatch,
)
from runtime.local import LocalRuntime
from runtime.remote import RemoteRuntime
from runtime.rpc.failure import typed
from runtime.runtime import GenerateRequest, Runtime, SamplingParameters, StoppingParameters, TextPart
from runtime.v1 import backend_pb2, generation_pb2
from support.arithmetic import expected
from support.gated import ONE_ROW, GatedBackend
from support.rpc import connected
from support.scripted import ScriptedRuntime
from support.serving import arithmetic_runtime, ids, reply, tokens_request

pytestmark = pytest.mark.anyio

REQUEST = GenerateRequest(parts=(TextPart("a"),))


def public_methods(kind: type) -> dict[str, inspect.Signature]:
    return {name: inspect.signature(member) for name, member in vars(kind).items() if _is_method(name, member)}


def _is_method(name: str, member: object) -> bool:
    return inspect.isfunction(member) and not name.startswith("_")


@pytest.mark.parametrize("kind", [RemoteRuntime, LocalRuntime])
def test_methods_are_those_of_the_protocol(kind: type) -> None:
    """Neither fewer nor more, and with the same parameters."""
    wanted, given = public_methods(Runtime), public_methods(kind)
    assert set(given) == set(wanted)
    for name, signature in wanted.items():
        assert list(given[name].parameters) == list(signature.parameters)


def test_every_rpc_has_a_method() -> None:
    """Each RPC of the two services is a method of the protocol, so nothing is served that a gateway cannot pass on."""
    services = [
        generation_pb2.DESCRIPTOR.services_by_name["Generation"],
        backend_pb2.DESCRIPTOR.services_by_name["Backend"],
    ]
    rpcs = {method.name.lower() for service in services for method in service.methods}
    assert rpcs == set(public_methods(Runtime)) - {"aclose"}


def each_call(runtime: Runtime) -> dict[str, Any]:
    """One call of every method but `aclose`; a stream's waits for its first event."""
    return {
        "generate": lambda: anext(runtime.generate(REQUEST)),
        "tokenize": lambda: runtime.tokenize(REQUEST),
        "info": runtime.info,
        "health": runtime.health,
        "metrics": runtime.metrics,
        "warmup": lambda: anext(runtime.warmup()),
        "prefill": lambda: runtime.prefill([]),
        "concatenate": lambda: runtime.concatenate([1]),
        "decode": lambda: runtime.decode([1]),
        "filter": lambda: runtime.filter(1, [1]),
        "release": lambda: runtime.release(None),
    }


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("`x` must be 1, got 2, é\nand more"),
        TemplateError("no roles"),
        Overloaded("full"),
        UnknownBatch("gone"),
        BackendError("lost"),
        NotReady("loading"),
    ],
)
async def test_errors_arrive_as_they_were_raised(error: RuntimeServiceError, tmp_path: Path) -> None:
    """Class and text, from every method."""
    async with connected(ScriptedRuntime(error), tmp_path) as connection:
        for name, call in each_call(connection.remote).items():
            with pytest.raises(RuntimeServiceError) as caught:
                await call()
            assert (name, type(caught.value), caught.value.message) == (name, type(error), error.message)


async def test_unexpected_error_of_the_worker(tmp_path: Path) -> None:
    """Typed, and without the worker's text."""
    async with connected(ScriptedRuntime(ValueError("/secret/path")), tmp_path) as connection:
        for call in each_call(connection.remote).values():
            with pytest.raises(RuntimeServiceError, match=r"the server's log has the cause") as caught:
                await call()
            assert type(caught.value) is RuntimeServiceError


async def test_no_worker(tmp_path: Path) -> None:
    """Nobody listens: every method says that the worker is being started."""
    remote = RemoteRuntime(f"unix:{tmp_path / 's'}")
    for call in each_call(remote).values():
        with pytest.raises(NotReady, match="the worker does not answer"):
            await call()
    await remote.aclose()


async def test_worker_that_goes_away(tmp_path: Path) -> None:
    """A stream that is open when the connection ends gets NotReady; so does whoever comes after."""
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime, connected(runtime, tmp_path) as connection:
        stream = connection.remote.generate(tokens_request([1, 500], 60))
        assert ids(await anext(stream)) == expected([1, 500], 1)
        await connection.server.aclose(grace_seconds=0)
        for waiting in (stream, connection.remote.generate(tokens_request([1, 500], 60))):
            with pytest.raises(NotReady, match="the worker does not answer"):
                await anext(waiting)
        backend.gate.release(60)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, NotReady),
        (grpc.StatusCode.CANCELLED, NotReady),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, InvalidRequest),
        (grpc.StatusCode.UNKNOWN, RuntimeServiceError),
    ],
)
@pytest.mark.parametrize("trailing", [(), (("runtime-error", "NoSuchClass"),), (("runtime-error", "ValueError"),)])
def test_status_without_a_class_of_ours(code: grpc.StatusCode, kind: type, trailing: Any) -> None:
    """What gRPC itself says, or a newer server; its text is not shown."""
    metadata = grpc.aio.Metadata(*trailing)
    error = typed(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details="ipv4:10.0.0.1:80: refused"))
    assert type(error) is kind
    assert "10.0.0.1" not in error.message


@pytest.mark.parametrize(
    "request_",
    [
        GenerateRequest(parts=(TextPart("a"),), sampling=SamplingParameters(temperature=0)),
        GenerateRequest(parts=(TextPart("a"),), sampling=SamplingParameters(top_k=-1)),
        GenerateRequest(parts=(TextPart("a"),), sampling=SamplingParameters(seed=2**64)),
        GenerateRequest(parts=(TextPart("a"),), stopping=StoppingParameters(max_new_tokens=0)),
        GenerateRequest(parts=(TextPart("a"),), stopping=StoppingParameters(max_new_tokens=2**40)),
        GenerateRequest(parts=(TextPart("a"),), stopping=StoppingParameters(stop=("",))),
        GenerateRequest(parts=(TextPart("a"),), stopping=StoppingParameters(stop=("x",) * 5)),
    ],
)
async def test_same_refusals_on_both_sides(request_: GenerateRequest, tmp_path: Path) -> None:
    """A parameter out of range is refused with the same words, whether or not a message could hold it."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        with pytest.raises(InvalidRequest) as here:
            await reply(runtime, request_)
        with pytest.raises(InvalidRequest) as there:
            await reply(connection.remote, request_)
    assert there.value.message == here.value.message
