"""One server for the clients of all files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.pictures import PICTURES, Picture
from support.processes import serving


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Address of the bundled model on the oracle, which no proxy of the environment comes between."""
    with pytest.MonkeyPatch.context() as patch, serving("--backend", "cpu_reference", "--model-id", "demo") as server:
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "*")
        yield server.http


@pytest.fixture(params=PICTURES, ids=lambda picture: picture.file)
def picture(request: pytest.FixtureRequest) -> Picture:
    """Each bundled picture in turn."""
    chosen: Picture = request.param
    return chosen
