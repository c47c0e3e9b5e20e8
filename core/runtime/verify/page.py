"""The report as one HTML page that needs nothing else: a plot of error by place for each case and stage."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from typing import Final

from runtime.verify.report import Report
from runtime.verify.verdict import CaseVerdict, StageVerdict

PLOT_WIDTH, PLOT_HEIGHT = 180, 60
LOWEST, HIGHEST = -9.0, 1.0
"""Powers of ten between which errors are drawn."""

STYLE: Final = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 84em; padding: 0 1em; color: #1b1f24 }
.ok { color: #116329 } .fault { color: #b3261e; font-weight: 600 }
.cards { display: flex; flex-wrap: wrap; gap: 12px } figure { margin: 0; padding: 8px; border: 1px solid #d0d7de }
figure.fault { border: 2px solid #b3261e; font-weight: 400 } figcaption { font-size: 12px; color: #1b1f24 }
svg { display: block; background: #f6f8fa } pre { background: #f6f8fa; padding: 1em; overflow: auto }
td, th { text-align: left; padding: 2px 12px 2px 0 } .key span { padding-left: 1.2em }
"""
ERROR, NOISE, ALLOWED = "#0550ae", "#8c959f", "#b3261e"


def page_of(report: Report) -> str:
    """Return the page."""
    verdict, grounds = report.finding.verdict, report.grounds
    title = f"{grounds['backend']['name']} against {grounds['oracle']['name']}"
    status = "no divergence" if verdict.ok else f"first divergence at {verdict.first}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="{"ok" if verdict.ok else "fault"}">{escape(status)}</p>',
        _key(report),
        *([] if report.finding.tells_stages else ["<p>The backend tells no stages: scores and tokens only.</p>"]),
        *(_case(case) for case in verdict.cases),
        *(_case(case, " by layer") for case in verdict.layers),
        f"<h2>What this depends on</h2><pre>{escape(json.dumps(grounds, indent=2))}</pre>",
        f"<p>report {escape(report.digest)}</p>",
    ]
    head = f'<meta charset="utf-8"/><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _key(report: Report) -> str:
    judged = report.grounds["judged"]
    return (
        f'<p class="key">Relative error of each vector, in order of row and position, on a scale from 10<sup>'
        f"{LOWEST:g}</sup> to 10<sup>{HIGHEST:g}</sup>: "
        f'<span style="color:{ERROR}">the backend</span><span style="color:{NOISE}">the oracle in '
        f'{escape(judged["noise_dtype"])}</span><span style="color:{ALLOWED}">what rounding explains</span></p>'
    )


def _case(case: CaseVerdict, kind: str = "") -> str:
    heading = f"<h2>{escape(case.name)}{kind}</h2>"
    if case.left_out:
        return f"{heading}<p>not run: {escape(case.left_out)}</p>"
    failed = f'<p class="fault">failed: {escape(case.failed)}</p>' if case.failed else ""
    plots = "".join(_figure(stage) for stage in case.stages)
    tokens = f"<p>{case.agreed} of {case.compared} tokens agree</p>{_flips(case)}"
    return f'{heading}{failed}<div class="cards">{plots}</div>{tokens}'


def _flips(case: CaseVerdict) -> str:
    if not case.flips:
        return ""
    rows = "".join(
        f'<tr class="{"ok" if each.is_noise else "fault"}"><td>{escape(str(each.flip.place))}</td>'
        f"<td>{each.flip.wanted}</td><td>{each.flip.got}</td>"
        f"<td>{each.flip.margin:.3g}</td><td>{each.allowed:.3g}</td></tr>"
        for each in case.flips
    )
    head = "<tr><th>place</th><th>oracle</th><th>backend</th><th>margin</th><th>rounding explains</th></tr>"
    return f"<table>{head}{rows}</table>"


def _figure(stage: StageVerdict) -> str:
    kl = "" if stage.kl_max is None else f"<br/>KL {stage.kl_mean:.2g}, at most {stage.kl_max:.2g} nats"
    told = stage.mismatch or f"RMS {stage.rms:.2g}, worst {stage.worst:.2g}, {stage.ratio:.3g} times the noise"
    caption = f"<figcaption><b>{escape(stage.stage)}</b><br/>{escape(told)}{kl}</figcaption>"
    lines = _line(stage.noise, NOISE) + _line(stage.errors, ERROR)
    top = _height(stage.allowed_worst)
    limit = f'<line x1="0" x2="{PLOT_WIDTH}" y1="{top:.1f}" y2="{top:.1f}" stroke="{ALLOWED}" stroke-dasharray="4 3"/>'
    svg = f'<svg width="{PLOT_WIDTH}" height="{PLOT_HEIGHT}" role="img">{limit}{lines}</svg>'
    kind = "" if stage.ok else ' class="fault"'
    return f"<figure{kind}>{svg}{caption}</figure>"


def _line(errors: Sequence[float], colour: str) -> str:
    if len(errors) < 2:
        errors = [*errors, *errors]
    step = PLOT_WIDTH / max(1, len(errors) - 1)
    points = " ".join(f"{at * step:.1f},{_height(error):.1f}" for at, error in enumerate(errors))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _height(error: float) -> float:
    """Return where an error is drawn: its power of ten, from the top down."""
    power = LOWEST if error <= 0 else math.log10(error) if math.isfinite(error) else HIGHEST
    return PLOT_HEIGHT * (HIGHEST - min(max(power, LOWEST), HIGHEST)) / (HIGHEST - LOWEST)
