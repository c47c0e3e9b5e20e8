"""Generate `core/runtime/v1` and `v3` from `protos/`: run `make protos` after every change of a .proto file.

The path of a .proto file is its Python package, so the generated imports need no patching.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]


def generate(target: Path) -> None:
    """Write the generated modules below `target`, in the folders of their package."""
    protos = ROOT / "protos"
    files = sorted(str(path) for path in protos.rglob("*.proto"))
    out = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{protos}", *out, *files]) != 0:
        raise SystemExit("protoc failed; its message is above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "core")
