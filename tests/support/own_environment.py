"""A virtual environment to install packages into: it sees everything that the environment of the tests has."""

from __future__ import annotations

import os
import sys
import sysconfig
import venv
from pathlib import Path

from support.processes import environment

COMMANDS = ("pip", "pytest", "runtime")


def own_environment(folder: Path) -> dict[str, str]:
    """Make the environment in a folder, and return the variables of a shell in which it is active and offline."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    outer = sysconfig.get_path("purelib")
    (packages / "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n")
    for command in COMMANDS:
        script = folder / "bin" / command
        script.write_text(f'#!/bin/sh\nexec "{python}" -m {command} "$@"\n')
        script.chmod(0o755)
    pip = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pip["PIP_NO_BUILD_ISOLATION"] = "0"  # the value of `build_isolation`, whatever the variable's name says
    path = os.pathsep.join((str(folder / "bin"), os.environ["PATH"]))
    return {**environment(), **pip, "PATH": path, "VIRTUAL_ENV": str(folder), "NO_PROXY": "*"}
