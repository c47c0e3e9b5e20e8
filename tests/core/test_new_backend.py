"""The packages that `runtime new-backend` writes."""

from __future__ import annotations

import ast
import configparser
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from runtime.backend import CONTRACT_VERSION, Images
from runtime.cli import main
from runtime.errors import StartupError
from runtime.geometry import feature_count, tile_count
from runtime.new_backend import TEMPLATES, check_name, write_backend
from runtime.plugins import Hooks, backend_named
from runtime.static.device import Device
from runtime.static.graphs import GraphRunner
from runtime.static.kernels import StaticKernels
from runtime_cpu_reference.backend import CpuReference
from support.driver import LIMITS, Driver, Prompt
from support.plugin import install_plugin
from support.serving import MODEL

KINDS = pytest.mark.parametrize("static", [False, True], ids=["plain", "static"])


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, static: bool) -> Iterator[Path]:
    """The package of my_chip, installed; what is imported from it is forgotten."""
    folder = tmp_path / "package"
    write_backend("my_chip", folder, static)
    monkeypatch.syspath_prepend(install_plugin(folder, "my_chip", "runtime_my_chip"))
    yield folder
    for name in [name for name in sys.modules if name.startswith("runtime_my_chip")]:
        del sys.modules[name]


def picture_prompt() -> Prompt:
    """Text around a picture of noise, of the largest size that the demo model has."""
    geometry = MODEL.images
    assert geometry is not None
    assert MODEL.image_token_id is not None
    size = geometry.pinpoints[2]
    noise = torch.Generator().manual_seed(0)
    tiles = torch.randn(tile_count(size, geometry), 3, geometry.tile, geometry.tile, generator=noise)
    picture = torch.full((feature_count(size, geometry),), MODEL.image_token_id)
    tokens = torch.cat([torch.tensor([1, 40]), picture, torch.tensor([77, 78, 90])])
    return Prompt(tokens, Images(tiles, (len(tiles),), (size,), (bytes(32),)))


def walk(backend: object) -> list[torch.Tensor]:
    """The scores of two prompts, steps, a third that joins late, and one in the slot of a row that left."""
    driver = Driver(Hooks("walked", backend, MODEL, LIMITS))  # type: ignore[arg-type]
    text = Prompt(torch.tensor([1, 40, 500, 77]), None)
    scores = [driver.join({0: text, 2: picture_prompt()}).clone()]
    scores += [driver.step()[[0, 2]] for _ in range(4)]
    scores += [driver.join({1: Prompt(torch.tensor([1]), None)}).clone(), driver.step()[[0, 1, 2]]]
    driver.leave(2)
    return [*scores, driver.join({2: text}).clone(), driver.step()[[0, 1, 2]]]


@KINDS
def test_it_computes_what_the_oracle_does(written: Path) -> None:
    """As generated, found through its entry point, in fp32."""
    found = backend_named("my_chip")
    assert found.availability.ok
    assert found.contract == f"~={CONTRACT_VERSION}"
    assert found.spec is not None
    for told, wanted in zip(walk(found.spec.load(MODEL, LIMITS)), walk(CpuReference(MODEL, LIMITS)), strict=True):
        torch.testing.assert_close(told, wanted, rtol=0, atol=1e-4)


@KINDS
def test_automatic_choice_leaves_it_alone(written: Path) -> None:
    """It is not the fastest yet, and never takes the place of one that works."""
    assert backend_named("auto").name == "cpu"


@KINDS
def test_every_file_is_whole(written: Path) -> None:
    """Nothing of the template is left, Python parses, and the places that wait for the chip are marked."""
    sources = [path for path in written.rglob("*") if path.is_file() and path.parent.suffix != ".dist-info"]
    for path in sources:
        text = path.read_text()
        assert "$" not in text
        assert "NAME" not in path.name
        if path.suffix == ".py":
            ast.parse(text)
            assert max(map(len, text.splitlines())) <= 120
    assert sum(path.read_text().count("YOUR CHIP") for path in sources) >= 5


@pytest.mark.parametrize("static", [True])
@pytest.mark.parametrize(
    ("module", "name", "protocol"),
    [
        ("device", "MyChipDevice", Device),
        ("graphs", "MyChipRunner", GraphRunner),
        ("kernels", "MyChipKernels", StaticKernels),
    ],
)
def test_static_parts_are_whole(written: Path, module: str, name: str, protocol: type) -> None:
    """They have everything that the toolkit's protocols ask for."""
    part = getattr(importlib.import_module(f"runtime_my_chip.{module}"), name)
    wanted = {each for each in dir(protocol) if not each.startswith("_")}
    assert wanted - set(dir(part)) == set()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "'' cannot be a backend's name: it is 1 to 32 of a-z, 0-9 and single _ between them, the first a letter"),
        ("My", "'My' cannot be a backend's name"),
        ("my-chip", "'my-chip' cannot be a backend's name"),
        ("my__chip", "'my__chip' cannot be a backend's name"),
        ("chip\n", "cannot be a backend's name"),
        ("ché", "cannot be a backend's name"),
        ("../chip", "cannot be a backend's name"),
        ("9chip", "cannot be a backend's name"),
        ("c" * 33, "cannot be a backend's name: it is 1 to 32"),
        ("auto", "'auto' cannot be a backend's name: the word is reserved; choose another"),
        ("class", "'class' cannot be a backend's name: the word is reserved; choose another"),
        ("cpu", "there is a backend 'cpu' already, in vlm-runtime; choose another name"),
        ("torch", "there is a module runtime_torch already; choose another name"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, name: str, reason: str) -> None:
    """With the rule or who has the name; nothing is written."""
    with pytest.raises(StartupError) as error:
        write_backend(name, tmp_path / "package", static=False)
    assert reason in error.value.message
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize("name", ["c", "chip9", "my_chip_2", "c" * 32])
def test_names_that_can_be(name: str) -> None:
    """Plain words."""
    check_name(name)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Not even an empty folder, or a file of that name."""
    for name in ("folder", "file"):
        taken = tmp_path / name
        taken.mkdir() if name == "folder" else taken.write_text("mine")
        with pytest.raises(StartupError, match="exists already, and nothing is overwritten; name another --folder"):
            write_backend("my_chip", taken, static=False)
    assert (tmp_path / "file").read_text() == "mine"
    assert [*(tmp_path / "folder").iterdir()] == []


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """The system's reason."""
    with pytest.raises(StartupError, match=r"cannot write to .*: No such file or directory"):
        write_backend("my_chip", tmp_path / "no" / "such", static=False)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes to a folder named after the backend, lists the files, and says how to go on; a second time it refuses."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["new-backend", "my_chip"])
    assert done.exit_code == 0, done.output
    files, _, advice = done.output.partition("\n\n")
    assert sorted(files.splitlines()) == sorted(
        str(path.relative_to(tmp_path)) for path in (tmp_path / "runtime-my-chip").rglob("*") if path.is_file()
    )
    assert "pip install -e runtime-my-chip" in advice
    assert "runtime serve --backend my_chip --model-id demo" in advice
    again = CliRunner().invoke(main, ["new-backend", "my_chip"])
    assert (again.exit_code, again.output) == (
        1,
        "runtime new-backend: runtime-my-chip exists already, and nothing is overwritten; name another --folder\n",
    )


def test_templates_are_in_the_wheel() -> None:
    """The patterns of setup.cfg find every one of them."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).resolve().parents[2] / "setup.cfg")
    patterns = setup["options.package_data"]["runtime.new_backend"].split(", ")
    package = TEMPLATES.parent
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    assert packed == {path for path in TEMPLATES.rglob("*") if path.is_file()}
