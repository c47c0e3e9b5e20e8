"""Whether the backend can run here, asked of machines made of folders; nothing of the vendor's is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime.backend import Availability
from runtime.plugins import find_backends
from runtime_hpu.probe import NO_DEVICE, NOT_INSTALLED, availability

Install = Callable[[str | None], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a package of the vendor's name, which nobody may import, on the path of imports, and its metadata."""
    folder = tmp_path / "packages"
    monkeypatch.syspath_prepend(folder)

    def with_version(version: str | None) -> None:
        (folder / "habana_frameworks").mkdir(parents=True)
        (folder / "habana_frameworks" / "__init__.py").write_text('raise AssertionError("imported")\n')
        if version is not None:
            facts = folder / f"habana_torch_plugin-{version}.dist-info"
            facts.mkdir()
            (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: habana-torch-plugin\nVersion: {version}\n")

    return with_version


@pytest.fixture
def card(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a machine with one device node."""

    def with_node(node: str) -> Path:
        (tmp_path / node).parent.mkdir(parents=True)
        (tmp_path / node).touch()
        return tmp_path

    return with_node


def test_without_the_package_the_reason_is_how_to_install_it(tmp_path: Path) -> None:
    """And where what belongs to it comes from."""
    assert availability(tmp_path) == Availability(False, NOT_INSTALLED)
    assert "pip install 'vlm-runtime[hpu]'" in NOT_INSTALLED


def test_without_the_package_nothing_changes() -> None:
    """It is listed with the reason, and neither environment nor modules are touched."""
    before = dict(os.environ)
    (listed,) = [backend for backend in find_backends() if backend.name == "hpu"]
    assert listed.availability == Availability(False, NOT_INSTALLED)
    assert listed.spec is not None
    assert listed.spec.static_shapes
    assert dict(os.environ) == before
    assert not any(name.startswith("habana_frameworks") for name in sys.modules)


@pytest.mark.parametrize("node", ["dev/accel/accel0", "dev/hl0"])
def test_package_and_card(node: str, install: Install, card: Callable[[str], Path]) -> None:
    """Of a newer driver and of an older one."""
    install("1.23.0.695")
    assert availability(card(node)) == Availability(True, details={"device": "hpu", "habana": "1.23.0.695"})


def test_package_without_a_card(install: Install, card: Callable[[str], Path]) -> None:
    """Other nodes beside it are none."""
    install("1.19.0.561")
    found = availability(card("dev/hl_controlD0"))
    assert (found.ok, found.reason) == (False, NO_DEVICE)


def test_an_emulation_needs_no_card_and_says_so(install: Install, tmp_path: Path) -> None:
    """Its device is told by a name of its own, which every reply's header has."""
    install("1.19.0.561+emulated")
    found = availability(tmp_path)
    assert found.ok
    assert found.details == {"device": "hpu-emulated", "habana": "1.19.0.561+emulated", "emulated": "yes"}


def test_an_old_release_is_refused(install: Install, card: Callable[[str], Path]) -> None:
    """With the release to install."""
    install("1.16.2.2")
    found = availability(card("dev/accel/accel0"))
    assert (found.ok, found.reason) == (False, "habana-torch-plugin 1.16.2.2 is too old; install 1.17 or newer")


def test_a_folder_of_the_name_is_not_the_package(install: Install, tmp_path: Path) -> None:
    """It has no metadata."""
    install(None)
    assert availability(tmp_path) == Availability(False, NOT_INSTALLED)
