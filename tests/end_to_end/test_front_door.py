"""A whole server with its door closed: key, TLS, step operations apart, a share for each client."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import trustme
from click.testing import CliRunner
from runtime.cli import main
from runtime.v1 import backend_pb2, backend_pb2_grpc, generation_pb2_grpc, messages_pb2
from support.processes import Server, refused, serving

KEY = "hunter2"
BEARER = (("authorization", f"Bearer {KEY}"),)
ASK = {"inputs": "What shape is green?", "parameters": {"max_new_tokens": 3}}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    """Who signed the server's certificate."""
    return trustme.CA()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of its files."""
    return tmp_path_factory.mktemp("door")


@pytest.fixture(scope="module")
def server(arithmetic_plugin: Path, authority: trustme.CA, folder: Path) -> Iterator[Server]:
    """One for all flags; the key comes by its variable."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    flags = [
        *("--model-id", "demo", "--backend", "arithmetic"),
        *("--ssl-certfile", str(folder / "both.pem"), "--ssl-keyfile", str(folder / "both.pem")),
        *("--admin-listen", f"unix:{folder / 'admin'}", "--max-concurrent-per-client", "2"),
    ]
    with serving(*flags, folders=[arithmetic_plugin], variables={"API_KEY": KEY}) as server:
        yield server


@pytest.fixture
def trusted(authority: trustme.CA) -> grpc.ChannelCredentials:
    """For gRPC clients."""
    return grpc.ssl_channel_credentials(authority.cert_pem.bytes())


@pytest.mark.proves("--ssl-certfile", "--ssl-keyfile")
def test_https(server: Server, folder: Path) -> None:
    """The HTTP API speaks TLS only, and asks for the key."""
    assert server.http.startswith("https://")
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    with httpx.Client(base_url=server.http, verify=context, trust_env=False, timeout=30) as http:
        assert http.get("/health").status_code == 200
        assert http.post("/generate", json=ASK).status_code == 401
        assert http.get("/metrics").status_code == 401
        assert http.post("/generate", json=ASK, headers=dict(BEARER)).status_code == 200


def test_runtime_ask(server: Server, folder: Path) -> None:
    """Takes the authority's file and the key."""
    words = ["ask", "--url", server.http, "--cacert", str(folder / "ca.pem"), "What shape is green?"]
    assert CliRunner().invoke(main, words, env={"API_KEY": KEY}).exit_code == 0
    assert "API key" in CliRunner().invoke(main, words).output
    assert "no answer from" in CliRunner().invoke(main, ["ask", "--url", server.http, "x"]).output


def test_grpc_needs_the_key(server: Server, trusted: grpc.ChannelCredentials) -> None:
    """As HTTP does."""
    with grpc.secure_channel(server.grpc, trusted) as channel:
        generation = generation_pb2_grpc.GenerationStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            generation.Info(messages_pb2.InfoRequest())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert generation.Info(messages_pb2.InfoRequest(), metadata=BEARER).model_id == "demo"


@pytest.mark.proves("--admin-listen")
def test_step_operations_apart(server: Server, folder: Path, trusted: grpc.ChannelCredentials) -> None:
    """Only on their own listener, whose socket is for its owner."""
    release = backend_pb2.ReleaseRequest(id=1)
    with grpc.secure_channel(server.grpc, trusted) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            backend_pb2_grpc.BackendStub(channel).Release(release, metadata=BEARER)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with grpc.insecure_channel(f"unix:{folder / 'admin'}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            backend_pb2_grpc.BackendStub(channel).Release(release)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert (folder / "admin").stat().st_mode & 0o777 == 0o600


@pytest.mark.proves("--max-concurrent-per-client")
def test_a_share_for_each_client(server: Server, folder: Path) -> None:
    """One more than two at once is refused, whichever protocol they came by."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    long = {"inputs": "a", "parameters": {"max_new_tokens": 2000}}
    with httpx.Client(base_url=server.http, verify=context, trust_env=False, timeout=30, headers=dict(BEARER)) as http:
        ask = ("POST", "/generate_stream")
        with http.stream(*ask, json=long) as one, http.stream(*ask, json=long) as two:
            assert (one.status_code, two.status_code) == (200, 200)
            answer = http.post("/generate", json=ASK)
            assert answer.status_code == 429, answer.text
            assert "--max-concurrent-per-client" in answer.json()["error"]


def test_the_worker_never_gets_the_key(server: Server) -> None:
    """Neither by its command line nor by its environment."""
    for name in ("cmdline", "environ"):
        assert KEY.encode() not in (Path("/proc") / str(server.worker) / name).read_bytes()


@pytest.mark.proves("--step-rpcs")
def test_step_operations_off(arithmetic_plugin: Path) -> None:
    """Refused on the public port, with what turns them on."""
    flags = ("--model-id", "demo", "--backend", "arithmetic", "--step-rpcs", "off")
    with serving(*flags, folders=[arithmetic_plugin]) as server, grpc.insecure_channel(server.grpc) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            backend_pb2_grpc.BackendStub(channel).Release(backend_pb2.ReleaseRequest())
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "--step-rpcs" in caught.value.details()


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    """One line that names the file, before a model is loaded."""
    line = refused("serve", "--model-id", "demo", "--ssl-certfile", str(tmp_path / "a"), "--ssl-keyfile", "b")
    assert f"--ssl-certfile {tmp_path / 'a'} cannot be read: No such file or directory" in line
