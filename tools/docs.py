"""Generate the tables of `docs/configuration.md` and `docs/proofs.md`: run `make docs` after every change of a knob.

The text around them is written by hand; a table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, routing
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection
from runtime.compatibility import FOREIGN_FLAGS, FOREIGN_VARIABLES
from runtime.hookspecs import Compute, Discovery
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.knobs import GROUPS, KNOBS, Knob
from runtime.rpc.server import SERVICES
from runtime_hpu.options import OPTIONS as HPU_OPTIONS
from runtime_torch import CUDA_OPTIONS, OPTIONS

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = (ROOT / "docs" / "configuration.md", ROOT / "docs" / "proofs.md")
TABLE: Final = re.compile(r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """Return the page with every table made anew; KeyError for a table nobody makes."""
    tables = dict(_tables())
    return TABLE.sub(lambda found: f"{found[1]}\n{tables[found['name']]}\n{found[3]}", page)


def claims() -> Mapping[str, Sequence[str]]:
    """Return what must be proved, by kind: `METHOD /path`, `package.Service/Method`, `--flag`, `hook name`."""
    nobody: Any = None  # routes are made without asking the runtime
    app = create_app(nobody, HttpOptions(payload_limit=1))
    services = [*SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME]
    return {
        "routes": sorted(_routes(app), key=lambda route: route.split()[::-1]),
        "methods": [method for service in services for method in _methods(service)],
        "settings": [knob.flag for knob in KNOBS],
        "hooks": [f"hook {name}" for spec in (Discovery, Compute) for name in vars(spec) if not name.startswith("_")],
    }


def proofs() -> Mapping[str, Sequence[tuple[Path, str]]]:
    """Return (file, test) of every mark, by what it says to prove."""
    found = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for claim in _marked(node):
                    found[claim].append((path.relative_to(ROOT), node.name))
    return found


def _routes(app: FastAPI) -> Iterator[str]:
    each: Any = getattr(routing, "iter_route_contexts", iter)  # older FastAPI lists routes, not routers
    for route in each(app.routes):
        yield from (f"{method} {route.path}" for method in route.methods - {"HEAD"})


def _methods(service: str) -> Iterator[str]:
    for method in descriptor_pool.Default().FindServiceByName(service).methods:
        yield f"{service}/{method.name}"


def _marked(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield the arguments of `pytest.mark.proves`, which stands above the test or with one of its parameters."""
    for decorator in test.decorator_list:
        for call in ast.walk(decorator):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.proves":
                yield from (str(ast.literal_eval(argument)) for argument in call.args)


def _tables() -> Iterator[tuple[str, str]]:
    for group, knobs in GROUPS.items():
        yield group.lower(), _table(("Flag", "Environment", "Default", "Meaning"), [_knob_row(knob) for knob in knobs])
    yield "cpu", _table(("Flag", "Environment", "Default", "Meaning"), [_knob_row(knob) for knob in OPTIONS])
    yield "cuda", _table(("Flag", "Environment", "Default", "Meaning"), [_knob_row(knob) for knob in CUDA_OPTIONS])
    yield "hpu", _table(("Flag", "Environment", "Default", "Meaning"), [_knob_row(knob) for knob in HPU_OPTIONS])
    for name, refused in (("refused", True), ("ignored", False)):
        flags = [flag for flag in FOREIGN_FLAGS if flag.refused is refused]
        rows = [(f"`{flag.flag}`", ", ".join(f"`{value}`" for value in flag.harmless), flag.reason) for flag in flags]
        yield name, _table(("Flag", "Accepted in silence", "Reason"), rows)
    yield "variables", _table(("Variable", "Reason"), [(f"`{name}`", why) for name, why in FOREIGN_VARIABLES.items()])
    proved, named = proofs(), {"routes": "Route", "methods": "Method", "settings": "Setting", "hooks": "Hook"}
    for kind, wanted in claims().items():
        tests = ["; ".join(_test(*test) for test in proved.get(claim, ())) for claim in wanted]
        rows_of_kind = [(f"`{claim}`", test) for claim, test in zip(wanted, tests, strict=True)]
        yield f"proofs-of-{kind}", _table((named[kind], "Test"), rows_of_kind)


def _test(path: Path, name: str) -> str:
    return f"[{path.relative_to('tests')}](../{path}) `{name}`"


def _knob_row(knob: Knob) -> Sequence[str]:
    return f"`{knob.flag}`", f"`{knob.environment}`", _default(knob), knob.meaning


def _default(knob: Knob) -> str:
    if knob.required:
        return "required"
    return "" if knob.default in (None, ()) else f"`{_written(knob.default)}`"


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(with_tables(path.read_text()))
