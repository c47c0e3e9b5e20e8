"""`runtime serve --shadow`: real processes, the bundled model, transformers beside the `cpu` backend."""

from __future__ import annotations

import base64
import io
import time

import pytest
from PIL import Image
from support.processes import children, refused, serving
from support.scrape import read_scrape

_FILE = io.BytesIO()
Image.new("RGB", (60, 90), (200, 30, 30)).save(_FILE, "PNG")
PICTURE = f"![](data:image/png;base64,{base64.b64encode(_FILE.getvalue()).decode()})"
SECONDS = 240
"""For the shadow, which has little of a busy machine: it is nicer than the server."""


@pytest.mark.proves("--shadow")
@pytest.mark.proves("--shadow-rate")
def test_replies_are_computed_again() -> None:
    """Every step of a reply, by a process of its own that ends with the server; rounding is all there is."""
    shadow = ("--shadow", "cpu_reference", "--shadow-rate", "1")
    with serving("--model-id", "demo", "--backend", "cpu", "--dtype", "bfloat16", "--ignore-eos", *shadow) as server:
        server.events({"inputs": f"{PICTURE}What is this?", "parameters": {"max_new_tokens": 5, "do_sample": False}})
        with server.client() as http:

            def told(name: str) -> dict[str, float]:
                return dict(read_scrape(http.get("/metrics").content)[f"runtime_shadow_{name}"].values)

            deadline = time.monotonic() + SECONDS
            while told("compared_total")[""] < 5 and time.monotonic() < deadline:
                time.sleep(0.1)  # else the questions would leave nothing to the shadow, which is nicer than the server
            # Five steps of the reply, and those of the idle probe where the shadow took longer than it waits.
            assert told("compared_total")[""] >= 5
            assert told("disagreements_total")["large"] == 0
            assert told("dropped_total") == {"busy": 0, "unknown": 0, "failed": 0}
            assert 0 < told("largest_error")[""] < 4
        worker = server.worker
        assert children(worker)
    assert not children(worker)


def test_what_cannot_be_a_shadow() -> None:
    """Told before anything is loaded."""
    arguments = ("worker", "--model-id", "demo", "--backend", "cpu", "--listen", "unix:unused")
    assert refused(*arguments, "--shadow", "cpu") == (
        "runtime worker: --shadow cpu has no option reference_dtype, so its rounding cannot be measured; take --shadow "
        "cpu_reference"
    )
    assert "there is no backend 'sundial'" in refused(*arguments, "--shadow", "sundial")
