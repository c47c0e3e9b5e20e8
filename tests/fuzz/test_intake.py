"""Bytes and texts that nobody made on purpose, through the picture intake."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from runtime.intake.frames import ANSWER
from support import fuzz_intake
from support.fuzzing import mutated

MARKS = (
    b"@",
    b"\\",
    b"//",
    b"/",
    b":",
    b"#",
    b"?",
    b"[",
    b"]",
    b"%",
    b".",
    b"0x",
    b"\t",
    b"\r\n",
    b"127.0.0.1",
    b"::1",
)
SEGMENTS = (b"\xff\xc0", b"\xff\xda", b"\xff\xd9", b"\xff\xff", b"\0\0\0\0", b"IHDR", b"IDAT", b"VP8X", b"!\xf9", b",")
HOSTS = st.from_regex(r"[a-z0-9@.:\[\]%#\\/_-]{0,40}", fullmatch=True)


@given(mutated("url", *MARKS) | HOSTS.map(lambda host: f"http://{host}".encode()))
def test_url(data: bytes) -> None:
    """No address leads two readers to two hosts."""
    fuzz_intake.url(data)


@given(mutated("redirect", *MARKS) | HOSTS.map(lambda place: f"http://a/b?c\n{place}".encode()))
def test_redirect(data: bytes) -> None:
    """No redirect either."""
    fuzz_intake.redirect(data)


@given(mutated("data_uri", b",", b";base64", b"=", b"data:", b"%") | st.text().map(str.encode))
def test_data_uri(data: bytes) -> None:
    """Bytes or a refusal."""
    fuzz_intake.data_uri(data)


@given(mutated("header", *SEGMENTS))
def test_header(data: bytes) -> None:
    """The size is known before the image library sees the picture."""
    fuzz_intake.header(data)


@given(mutated("picture", *SEGMENTS))
def test_picture(data: bytes) -> None:
    """A picture or a refusal."""
    fuzz_intake.picture(data)


LENGTHS = st.sampled_from([0, 1, 2, 8, 20, 576, 1000, 1001, 2**31, 2**32 - 1])
ANSWERS = st.builds(
    lambda numbers, body: ANSWER.pack(*numbers[:4], bytes(32), *numbers[4:], len(body)) + body,
    st.tuples(st.integers(0, 3), LENGTHS, LENGTHS, LENGTHS, LENGTHS, LENGTHS),
    st.binary(max_size=20) | st.text().map(lambda text: b"picture 6: " + text.encode()),
)


@given(mutated("answer") | ANSWERS | st.binary())
def test_answer(data: bytes) -> None:
    """A process taken over gains nothing."""
    fuzz_intake.answer(data)
