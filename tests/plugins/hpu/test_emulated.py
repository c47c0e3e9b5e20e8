"""The backend on the virtual device, release by release and mode by mode, each in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.virtual_hpu import PROFILES, Mode, Release, run_script, run_tests

FILES = Path(__file__).parent / "emulated"
MODES: list[Mode] = ["lazy", "eager"]


@pytest.mark.parametrize(("release", "mode"), PROFILES)
def test_agreement(release: Release, mode: Mode) -> None:
    """With the oracle, in fp32 and in bfloat16."""
    run_tests(FILES / "agreement.py", release, mode)


@pytest.mark.parametrize("mode", MODES)
def test_serving(mode: Mode) -> None:
    """After the warm-up nothing is new; after a fatal error nothing goes on. `make test-hpu` sends 2000 requests."""
    run_tests(FILES / "serving.py", "1.19", mode, VIRTUAL_HPU_STALE_READS="1")


@pytest.mark.parametrize("mode", MODES)
def test_mistakes(mode: Mode) -> None:
    """Each of some is noticed."""
    run_tests(FILES / "mistakes.py", "1.19", mode)


@pytest.mark.parametrize("name", ["options", "calls"])
def test_in_lazy_mode(name: str) -> None:
    """What each option does, and what the vendor is asked."""
    run_tests(FILES / f"{name}.py", "1.19", "lazy")


WATCHED = {
    "PT_HPU_LAZY_MODE": "1",
    "PT_HPU_WEIGHT_SHARING": "0",
    "PT_HPU_ENABLE_LAZY_COLLECTIVES": "true",
    "PT_HPU_RECIPE_CACHE_CONFIG": "/cache,false,8192",
    "HABANA_VISIBLE_DEVICES": "3",
}
SCRIPT = f"""
import json, os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "habana_frameworks.torch":
            print(json.dumps({{variable: os.environ.get(variable) for variable in {list(WATCHED)}}}))

sys.meta_path.insert(0, Watch())
from runtime.model import read_model
from support.checkpoints import DEMO
from support.hpu import loaded
options = dict(pt_hpu_enable_lazy_collectives=True, pt_hpu_recipe_cache_config="/cache,false,8192")
print(loaded(read_model(DEMO), hpu_mode="lazy", **options).capacity().details["mode"])
"""


def test_the_environment_is_there_when_the_bridge_is_imported() -> None:
    """Which reads it once. What the container's runtime has chosen stays; of 1.23, eager is the default."""
    variables = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "HABANA_VISIBLE_DEVICES": "3"}
    first, *_, last = run_script(SCRIPT, "1.23", None, **variables).splitlines()
    assert json.loads(first) == WATCHED
    assert last == "lazy"
