"""TLS on both listeners: a certificate that works, versions that do not, and files that cannot be used."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from runtime.config import Settings
from runtime.errors import StartupError
from runtime.rpc.door import Door
from runtime.rpc.server import RpcServer
from runtime.serve.tls import Certificate, read_certificate
from runtime.v1 import generation_pb2_grpc, messages_pb2
from support.listening import listening
from support.scripted import ScriptedRuntime

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs the certificates of these tests."""
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> tuple[str, str]:
    """A certificate for this host, and its key."""
    return written(authority, tmp_path)


def written(authority: trustme.CA, folder: Path) -> tuple[str, str]:
    issued = authority.issue_cert("localhost", "127.0.0.1")
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return str(chain), str(key)


@pytest.fixture
def certificate(files: tuple[str, str]) -> Certificate:
    """As the server reads it."""
    read = read_certificate(*files)
    assert read is not None
    return read


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def test_https(authority: trustme.CA, certificate: Certificate) -> None:
    """A client that trusts the authority is served, in TLS 1.2 or above."""
    async with listening(app, tls=certificate.context) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting(authority))
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await reader.readline()) == b"HTTP/1.1 204 No Content\r\n"
        assert writer.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
        writer.close()
        await writer.wait_closed()


def test_old_versions(certificate: Certificate) -> None:
    """TLS 1.1 and below, which are broken, are not offered."""
    assert certificate.context.minimum_version is ssl.TLSVersion.TLSv1_2


async def test_plain_http_on_the_tls_port(certificate: Certificate) -> None:
    """Ends the connection."""
    async with listening(app, tls=certificate.context) as server:
        client = await server.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(client.ended(), 20)


async def test_grpc(authority: trustme.CA, certificate: Certificate) -> None:
    """A client that trusts the authority is served, one without TLS is not."""
    server = RpcServer(ScriptedRuntime(), "localhost:0", 1000, door=Door(credentials=certificate.for_grpc()))
    await server.start()
    try:
        trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        async with grpc.aio.secure_channel(server.address, trusted) as channel:
            info = await generation_pb2_grpc.GenerationStub(channel).Info(messages_pb2.InfoRequest())
            assert info.model_id == "demo"
        async with grpc.aio.insecure_channel(server.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await generation_pb2_grpc.GenerationStub(channel).Info(messages_pb2.InfoRequest())
    finally:
        await server.aclose(grace_seconds=0)


def test_no_files() -> None:
    """No TLS."""
    assert read_certificate(None, None) is None


def test_a_missing_file(files: tuple[str, str]) -> None:
    """Named, with what is wrong with it."""
    certfile, keyfile = files
    with pytest.raises(StartupError, match=f"--ssl-keyfile {keyfile}x cannot be read: No such file"):
        read_certificate(certfile, keyfile + "x")
    with pytest.raises(StartupError, match=f"--ssl-certfile {certfile}x cannot be read: No such file"):
        read_certificate(certfile + "x", keyfile)


def test_files_of_another_kind(files: tuple[str, str]) -> None:
    """Named by what they lack."""
    certfile, keyfile = files
    with pytest.raises(StartupError, match="holds no PEM certificate"):
        read_certificate(keyfile, keyfile)
    with pytest.raises(StartupError, match="holds no PEM private key"):
        read_certificate(certfile, certfile)


def test_files_that_do_not_fit(authority: trustme.CA, files: tuple[str, str], tmp_path: Path) -> None:
    """The key of another certificate, and a key that is cut off; no text of a library."""
    (tmp_path / "other").mkdir()
    _, other = written(authority, tmp_path / "other")
    with pytest.raises(StartupError, match="is not the key of") as caught:
        read_certificate(files[0], other)
    assert "X509" not in caught.value.message
    Path(other).write_text(Path(other).read_text()[:200])
    with pytest.raises(StartupError, match="is not the key of"):
        read_certificate(files[0], other)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"ssl_certfile": "a"}, "--ssl-certfile is given without --ssl-keyfile"),
        ({"ssl_keyfile": "a"}, "--ssl-keyfile is given without --ssl-certfile"),
        ({"step_rpcs": "off", "admin_listen": "unix:a"}, "leave one of them out"),
    ],
)
def test_contradictions(given: dict[str, Any], text: str) -> None:
    """Are told before anything starts."""
    with pytest.raises(StartupError, match=text):
        Settings.of(model_id="demo", **given).check()
