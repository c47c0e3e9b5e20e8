"""Writing the package of a new backend: it installs, serves the demo model as it is, and says where the chip comes in.

The templates are files of `string.Template` below `templates/`: `both/`, and `plain/` or `static/`.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template
from typing import Final

from runtime.backend import CONTRACT_VERSION
from runtime.errors import StartupError
from runtime.knobs import AUTO
from runtime.plugins import find_backends

NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", re.ASCII)
LONGEST: Final = 32
TEMPLATES: Final = Path(__file__).parent / "templates"
SUFFIX: Final = ".template"


def check_name(name: str) -> None:
    """Raise StartupError for a name that no new backend can have, with the reason."""
    if len(name) > LONGEST or not NAME.fullmatch(name):
        raise StartupError(
            f"{name[:LONGEST]!r} cannot be a backend's name: it is 1 to {LONGEST} of a-z, 0-9 and single _ between "
            "them, the first a letter"
        )
    if name == AUTO or keyword.iskeyword(name):
        raise StartupError(f"{name!r} cannot be a backend's name: the word is reserved; choose another")
    owners = [found.distribution for found in find_backends() if found.name == name]
    if owners:
        raise StartupError(f"there is a backend {name!r} already, in {owners[0]}; choose another name")
    if importlib.util.find_spec(f"runtime_{name}") is not None:
        raise StartupError(f"there is a module runtime_{name} already; choose another name")


def write_backend(name: str, folder: Path, static: bool) -> list[Path]:
    """Write the package to a folder that does not exist yet, and return its files.

    `static`: from the toolkit for static shapes. Raises StartupError.
    """
    check_name(name)
    values = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "class_name": "".join(word.capitalize() for word in name.split("_")),
        "contract": CONTRACT_VERSION,
        "flag": " --static" if static else "",
    }
    written = []
    try:
        folder.mkdir()
        for part in (TEMPLATES / "both", TEMPLATES / ("static" if static else "plain")):
            for template in part.rglob(f"*{SUFFIX}"):
                path = str(template.relative_to(part)).replace("NAME", name).removesuffix(SUFFIX)
                text = Template(template.read_text(encoding="utf-8")).substitute(values)
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8")
                written.append(folder / path)
    except FileExistsError:
        raise StartupError(f"{folder} exists already, and nothing is overwritten; name another --folder") from None
    except OSError as error:
        raise StartupError(f"cannot write to {folder}: {error.strerror}") from error
    return sorted(written)
