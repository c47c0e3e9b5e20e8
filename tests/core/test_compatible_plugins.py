"""Plugins of other versions of the contract: tests/frozen_plugin/ is of 1.0 and never changes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from runtime import demo
from runtime.backend import CONTRACT_VERSION
from runtime.cli import main
from runtime.errors import BackendRefused
from runtime.plugins import backend_named
from support.plugin import install_plugin
from support.processes import serving

FROZEN = Path(__file__).resolve().parents[1] / "frozen_plugin"


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The frozen plugin, installed from a copy; what was imported is forgotten."""
    module = tmp_path / "runtime_frozen"
    module.mkdir()
    shutil.copy(FROZEN / "runtime_frozen" / "__init__.py", module)
    monkeypatch.syspath_prepend(install_plugin(tmp_path, "frozen", "runtime_frozen"))
    yield tmp_path
    sys.modules.pop("runtime_frozen", None)


def test_plugin_of_an_older_contract_serves(frozen: Path) -> None:
    """It knows no options, takes fewer arguments than there are now, and answers right about every picture."""
    assert CONTRACT_VERSION != "1.0"
    with serving("--backend", "frozen", "--model-id", "demo", folders=[frozen]) as server:
        for picture in json.loads((demo.PICTURES / "pictures.json").read_text()):
            arguments = ["ask", "--url", server.http, "--image", str(demo.PICTURES / picture["file"])]
            result = CliRunner(env={"NO_PROXY": "*"}).invoke(main, [*arguments, picture["question"]])
            assert result.output == picture["answer"] + "\n"


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.9"])
def test_every_minor_version_takes_it(frozen: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Minor versions only add."""
    monkeypatch.setattr("runtime.plugins.CONTRACT_VERSION", version)
    assert backend_named("frozen").availability.ok


@pytest.mark.parametrize("contract", ["~=2.0", "~=0.9", ">=1.7", "<1.1"])
def test_contract_too_new_or_too_old(frozen: Path, contract: str) -> None:
    """Listed and refused with both versions and what to do; the plugin is never loaded."""
    module = frozen / "runtime_frozen" / "__init__.py"
    module.write_text(module.read_text().replace('"~=1.0"', f'"{contract}"'))
    told = f"it speaks contract {contract}, this runtime {CONTRACT_VERSION}; update the older of the two"
    with pytest.raises(BackendRefused) as refusal:
        backend_named("frozen")
    assert refusal.value.message == f"backend 'frozen' cannot be used: {told}"
    listed = CliRunner().invoke(main, ["backends"]).output
    assert f"frozen 1.0 {contract} no {told}" in " ".join(listed.split())
