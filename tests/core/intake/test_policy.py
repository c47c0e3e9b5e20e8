"""What operators write, and what addresses come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.errors import StartupError
from runtime.intake.policy import UrlPolicy
from runtime.intake.trouble import Refused
from runtime.intake.url import PictureUrl, read_url


def test_entries() -> None:
    """Names and addresses, with and without a port, alone and with commas between."""
    policy = UrlPolicy.of("listed", ["CDN.example, store.example:9000", "10.0.0.5", "[::1]:81", "[0:0::2]"])
    assert policy.listed == {
        ("cdn.example", None),
        ("store.example", 9000),
        ("10.0.0.5", None),
        ("::1", 81),
        ("::2", None),
    }


@pytest.mark.parametrize(
    "entry",
    ["", "a,,b", "http://a", "a/b", "a:0", "a:65536", "a:x", "a:", "::1", "0x7f.1", "*.a", "a@b", "a:1:2", "\u00e9"],
)
def test_entries_that_are_none(entry: str) -> None:
    """Told at the start, in one line."""
    with pytest.raises(StartupError, match=r"--image-url-allow .* is no host"):
        UrlPolicy.of("public", [entry])


def test_contradictions() -> None:
    """A list that is empty, or that nobody reads."""
    with pytest.raises(StartupError, match="no host is"):
        UrlPolicy.of("listed", [])
    with pytest.raises(StartupError, match="--image-url-policy is none"):
        UrlPolicy.of("none", ["a"])


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://a", PictureUrl("http", "a", 80, "/")),
        ("HTTPS://A.Example:8443/B?c=d#e", PictureUrl("https", "a.example", 8443, "/B?c=d")),
        ("https://a?b", PictureUrl("https", "a", 443, "/?b")),
        ("http://[2606:4700:0::1111]/%20", PictureUrl("http", "2606:4700::1111", 80, "/%20")),
        ("http://1.1.1.1/\u00e9", PictureUrl("http", "1.1.1.1", 80, "/%C3%A9")),
        ("http://a_b.xn--bcher-kva.example/", PictureUrl("http", "a_b.xn--bcher-kva.example", 80, "/")),
    ],
)
def test_addresses(text: str, url: PictureUrl) -> None:
    """Scheme and host in lower case, the path as it is, no fragment."""
    assert read_url(text) == url


@pytest.mark.parametrize(
    ("location", "result"),
    [
        ("https://b/c", "https://b/c"),
        ("//b/c", "http://b:80/c"),
        ("/c?d", "http://a:81/c?d"),
        ("c", "http://a:81/x/c"),
        ("?c", "http://a:81/x/y?c"),
        ("#c", "http://a:81/x/"),
    ],
)
def test_redirects(location: str, result: str) -> None:
    """Relative to the address they came from."""
    assert read_url("http://a:81/x/y?z").follow(location) == read_url(result)


HOSTS = st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9}){0,3}", fullmatch=True) | st.ip_addresses().map(
    lambda ip: f"[{ip}]" if ip.version == 6 else str(ip)
)


@given(st.sampled_from(["http", "https"]), HOSTS, st.integers(1, 65535), st.text("abc/%?=&.-_~", max_size=20))
def test_what_is_read_reads_the_same_again(scheme: str, host: str, port: int, path: str) -> None:
    """An address made of the parts has the same parts."""
    url = read_url(f"{scheme}://{host}:{port}/{path}")
    assert url.port == port
    assert read_url(f"{url.scheme}://{url.authority}{url.target}") == url


@given(st.text(max_size=80))
def test_no_text_breaks_it(text: str) -> None:
    """It is read or refused, and so is what it leads on to."""
    for read in (read_url, read_url("http://a/b").follow):
        try:
            url = read(text)
        except Refused:
            continue
        assert url.host.isascii()
        assert url.target.isascii()
        assert url.target.startswith("/")
        assert not set(url.target) & set(" \r\n\t")
