"""The certificate that the public listeners show."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from runtime.errors import StartupError


@dataclass(frozen=True, slots=True)
class Certificate:
    """A chain of certificates and the key of its first, as PEM."""

    chain: bytes
    key: bytes = field(repr=False)
    context: ssl.SSLContext
    """What HTTP serves with: TLS 1.2 or above."""

    def for_grpc(self) -> grpc.ServerCredentials:
        """Return what gRPC serves with: its library takes TLS 1.2 or above."""
        return grpc.ssl_server_credentials([(self.key, self.chain)])


def read_certificate(certfile: str | None, keyfile: str | None) -> Certificate | None:
    """Return the certificate of two PEM files, None when none are named.

    Raises StartupError when one cannot be read, is not PEM, or when the two do not belong together.
    """
    if certfile is None or keyfile is None:
        return None
    chain, key = _read("certfile", certfile), _read("keyfile", keyfile)
    if b"-----BEGIN CERTIFICATE-----" not in chain:
        raise StartupError(f"--ssl-certfile {certfile} holds no PEM certificate; convert it to PEM")
    if b"PRIVATE KEY-----" not in key:
        raise StartupError(f"--ssl-keyfile {keyfile} holds no PEM private key; convert it to PEM")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certfile, keyfile, password=lambda: "")  # a server asks nobody for a password
    except (ssl.SSLError, ValueError, OSError):
        raise StartupError(
            f"--ssl-keyfile {keyfile} is not the key of --ssl-certfile {certfile}, has a password, or one of them is "
            "damaged; give a certificate and its own key without a password"
        ) from None
    return Certificate(chain, key, context)


def _read(knob: str, name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise StartupError(f"--ssl-{knob} {name} cannot be read: {error.strerror}") from None
