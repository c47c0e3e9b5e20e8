"""Addresses that lead where no picture is: refused whatever their spelling, and before anything is dialled."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.errors import ImageNotFetched, ImageUrlNotEnabled
from runtime.intake.fetch import Fetcher
from runtime.intake.networks import is_nowhere, is_public
from runtime.intake.policy import UrlPolicy
from runtime.intake.url import IpAddress
from support.attack_addresses import SPELLINGS

pytestmark = pytest.mark.anyio

PICTURE = [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"png"]
PUBLIC = "93.184.216.34"


class Network(httpcore.AsyncMockBackend):
    """Notes what is dialled; the n-th connection answers with the n-th script."""

    def __init__(self, *scripts: list[bytes]) -> None:
        super().__init__([])
        self.dialled: list[tuple[str, int]] = []
        self._scripts = list(scripts) or [PICTURE] * 9

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append((host, port))
        return httpcore.AsyncMockStream(list(self._scripts.pop(0)))


class Names:
    """A name service that gives its answers in turn, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = [[ipaddress.ip_address(each) for each in answer] for answer in answers or ([PUBLIC],)]
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[IpAddress]:
        self.asked.append(host)
        return self._answers[min(len(self.asked), len(self._answers)) - 1]


async def fetch(
    url: str,
    names: Names | None = None,
    network: Network | None = None,
    mode: str = "public",
    listed: Sequence[str] = (),
) -> bytes:
    fetcher = Fetcher(UrlPolicy.of(mode, listed), 100, resolve=names or Names(), backend=network or Network())
    try:
        return await fetcher.fetch(url, 4)
    finally:
        fetcher.close()


async def refusal(url: str, names: Names | None = None, network: Network | None = None, **policy: Any) -> str:
    """The text of the refusal, once it is sure that it tells neither the address nor what it resolves to."""
    with pytest.raises(ImageNotFetched) as caught:
        await fetch(url, names, network, **policy)
    message = caught.value.message
    assert message.startswith("picture 4: ")
    assert not re.search(r"127\.0|169\.254|10\.0\.0|metadata|localhost|internal", message)
    assert caught.value.__cause__ is None
    return message


@pytest.mark.parametrize("url", SPELLINGS)
async def test_spellings_of_places_within(url: str) -> None:
    """Loopback, private, link-local, metadata, disguised IPv4, and whatever two parsers may read in two ways."""
    network, names = Network(), Names(["127.0.0.1"])
    await refusal(url, names, network)
    assert network.dialled == []


@pytest.mark.parametrize(
    "answer",
    [["127.0.0.1"], ["10.0.0.7"], ["169.254.169.254"], ["::1"], ["::ffff:10.0.0.1"], ["64:ff9b::a00:1"], ["fe80::1"],
     [PUBLIC, "127.0.0.1"], ["2606:2800:220:1::1", "fd00::1"]],
)  # fmt: skip
@pytest.mark.parametrize("name", ["localhost", "metadata.google.internal", "innocent.example"])
async def test_names_of_places_within(name: str, answer: list[str]) -> None:
    """What counts is where a name leads; one bad address of several is enough."""
    network = Network()
    assert "not on the public internet" in await refusal(f"http://{name}/", Names(answer), network)
    assert network.dialled == []


@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
async def test_what_was_checked_is_dialled(scheme: str) -> None:
    """The name is looked up once, so that an answer that changes changes nothing (DNS rebinding)."""
    names, network = Names([PUBLIC], ["127.0.0.1"]), Network()
    url = f"{scheme}://rebinding.example/a.png"
    assert await fetch(url, names, network) == b"png"
    assert network.dialled == [(PUBLIC, 443 if scheme == "https" else 80)]
    assert names.asked == ["rebinding.example"]


def redirect(location: str, status: int = 302) -> list[bytes]:
    return [f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/",
        "//127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://0x7f.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "data:image/png;base64,AAAA",
        "http://user@example.com/",
    ],
)
async def test_redirects_to_places_within(location: str, status: int) -> None:
    """Each step is checked like the first address."""
    network = Network(redirect(location, status))
    await refusal("http://example.com/", Names(), network)
    assert network.dialled == [(PUBLIC, 80)]


async def test_redirects_to_a_name_that_moved_within() -> None:
    """The second look-up is checked too."""
    names, network = Names([PUBLIC], ["10.0.0.1"]), Network(redirect("/again"))
    assert "not on the public internet" in await refusal("http://example.com/", names, network)
    assert len(network.dialled) == 1


async def test_redirects_end() -> None:
    """A loop is left after three steps; three are followed."""
    loop = Network(*[redirect("/")] * 9)
    assert "more than 3 times" in await refusal("http://example.com/", network=loop)
    assert len(loop.dialled) == 4
    assert await fetch("http://example.com/", network=Network(*[redirect("a?b")] * 3, PICTURE)) == b"png"


async def test_an_answer_without_addresses() -> None:
    """A name that does not exist is told as such."""
    assert "not known" in await refusal("http://example.com/", Names([]))


async def test_names_go_on_in_headers() -> None:
    """The pinned connection still asks for the host by its name."""
    network = Network()
    seen = []

    class Stream(httpcore.AsyncMockStream):
        async def write(self, buffer: bytes, timeout: float | None = None) -> None:
            seen.append(buffer)

    async def connect(*_arguments: Any, **_options: Any) -> httpcore.AsyncNetworkStream:
        return Stream(list(PICTURE))

    network.connect_tcp = connect  # type: ignore[method-assign]
    await fetch("http://Example.COM:8080/a b/\u00e9.png?x=1#top".replace(" ", "%20"), network=network)
    head = b"".join(seen)
    assert head.startswith(b"GET /a%20b/%C3%A9.png?x=1 HTTP/1.1\r\n")
    assert b"\r\nHost: example.com:8080\r\n" in head
    assert b"Accept-Encoding: identity" in head


@pytest.mark.proves("--image-url-policy")
async def test_policies() -> None:
    """`none` fetches nothing, `listed` what is listed, `public` also everything public."""
    with pytest.raises(ImageUrlNotEnabled, match=r"^picture 4: .* not fetch http addresses; send .*data:"):
        await fetch("http://example.com/", mode="none")
    assert "not one of those" in await refusal("http://example.com/", mode="listed", listed=["cdn.example"])
    assert await fetch("http://cdn.example/", mode="listed", listed=["cdn.example"]) == b"png"
    assert await fetch("http://example.com/", mode="public", listed=["cdn.example"]) == b"png"


@pytest.mark.proves("--image-url-allow")
async def test_listed_hosts_may_be_private() -> None:
    """An operator's own store; but by that name and port only, and never a metadata service."""
    listed = ["store.example:9000,other.example"]
    private = Names(["10.0.0.5"])
    network = Network()
    assert await fetch("http://store.example:9000/", private, network, listed=listed) == b"png"
    assert await fetch("http://other.example:25/", private, network, listed=listed) == b"png"
    assert network.dialled == [("10.0.0.5", 9000), ("10.0.0.5", 25)]
    assert "public internet" in await refusal("http://store.example/", private, listed=listed)
    assert "public internet" in await refusal("http://10.0.0.5:9000/", private, listed=listed)
    assert "public internet" in await refusal("http://other.example/", Names(["169.254.169.254"]), listed=listed)
    assert "public internet" in await refusal(
        "http://other.example/", Names(["10.0.0.5"]), Network(redirect("http://10.0.0.6/")), listed=listed
    )


async def test_proxies_are_for_listed_hosts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy resolves names itself, past every check."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://user:word@proxy.example:3128")
    network = Network()
    await fetch("http://example.com/", network=network, listed=["cdn.example"])
    await fetch("http://cdn.example/", network=network, listed=["cdn.example"])
    assert network.dialled == [(PUBLIC, 80), ("proxy.example", 3128)]


@given(st.ip_addresses())
def test_what_is_called_public_is_global(address: IpAddress) -> None:
    """`ipaddress` is asked as a second opinion; it may only be laxer."""
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
        assert not is_nowhere(address)


@pytest.mark.parametrize("address", ["1.1.1.1", PUBLIC, "100.63.255.255", "172.32.0.1", "2606:4700::1111", "2a00::1"])
def test_public_addresses(address: str) -> None:
    """The checks leave the internet open."""
    assert is_public(ipaddress.ip_address(address))


@given(st.text(max_size=60) | st.from_regex(r"https?://[a-z0-9@.:\[\]%#\\/-]{0,40}", fullmatch=True))
async def test_no_address_breaks_it(url: str) -> None:
    """Every text is fetched from a public address or refused in words."""
    network = Network()
    try:
        assert await fetch(url, Names(), network) == b"png"
    except ImageNotFetched:
        return
    assert all(is_public(ipaddress.ip_address(host)) for host, _port in network.dialled)
