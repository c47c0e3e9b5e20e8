"""Places of clients: counted by address, given back however a request ends."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from runtime.clients import ClientPlaces, client_of
from runtime.errors import Overloaded


def test_places_are_counted_by_client() -> None:
    """One more than the limit is refused; another client has its own; an end makes room."""
    places = ClientPlaces(2)
    with places.place("1.2.3.4"), ExitStack() as second:
        second.enter_context(places.place("1.2.3.4"))
        with pytest.raises(Overloaded, match=r"2 requests at work already.*--max-concurrent-per-client"):
            second.enter_context(places.place("1.2.3.4"))
        with places.place("1.2.3.5"):
            pass
        second.close()
        with places.place("1.2.3.4"):
            pass


def test_a_failed_request_gives_its_place_back() -> None:
    """And nothing is remembered of clients that have none at work."""
    places = ClientPlaces(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="no"), places.place("1.2.3.4"):
            raise ValueError("no")
    assert not places._taken


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("1.2.3.4", "::ffff:1.2.3.4", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("1.2.3.4", "1.2.3.5", False),
        ("unix:", "", False),
    ],
)
def test_who_is_one_client(one: str, other: str, are_same: bool) -> None:
    """An address, or the prefix that a host of IPv6 chooses its addresses in."""
    assert (client_of(one) == client_of(other)) is are_same
