"""An inspection as a piece of HTML that works by itself: strip, profile, map, pin, and the pinned token's numbers."""

import json
import uuid
from collections.abc import Sequence

import numpy as np

from npt_viz.figures.theme import Theme, colour_scale
from npt_viz.figures.token_view import CSS, HERE, HTML, SCRIPT, first_choices, token_view_data
from npt_viz.results.inspection import METRICS, TOKEN_METRICS, Inspection, Metric, TopTokens
from npt_viz.results.sentences.tokens import most_moved

OF_A_METRIC = ("rows", "values", "metric", "layers", "names", "numbered", "digest")
"""What the data of a view has of its metric alone."""

N_NEXT = 5
"""Next tokens that are listed of either model."""

FRAME = """
<div class="tools"><label>Colour <select class="metric"></select></label></div>
{view}
<div class="card"><div class="pinned"></div><div class="tables"><table class="numbers"></table><table class="next"></table></div></div>
"""

STYLE = """
:host { display: block; background: #fff; color: #23262d; padding: 8px; --st-text-color: #23262d; --st-background-color: #fff;
  --st-border-color: #d5d8de; --st-primary-color: #3b7fba; --st-font: system-ui, sans-serif; --st-code-font: ui-monospace;
  font: 13px/1.4 system-ui, sans-serif }
.metric { font: inherit } .card { margin-top: 8px } .pinned { font: 600 13px ui-monospace, monospace; white-space: pre }
.tables { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 24px } table { border-collapse: collapse; font-size: 12px }
td, th { padding: 1px 10px 1px 0; text-align: left; white-space: pre } td + td { font-variant-numeric: tabular-nums }
"""

_ALONE = (HERE / "alone.js").read_text(encoding="utf-8")


def standalone_view(run: Inspection, *, layer: int | None = None, token: int | None = None) -> str:
    """HTML of an inspection, everything it needs in it; whatever stands in the prompt is text and never markup.

    layer, token: what is pinned at first; the highest layer, and the token after which the prediction moves most.
    """
    layer = max(run.layers) if layer is None else layer
    data = _data(run, layer, most_moved(run) if token is None else token)
    name = data["view"]["channel"]
    markup = f"<style>{CSS}{STYLE}</style>" + FRAME.format(
        view=HTML.format(reserved=data["view"]["reserved"])
    )
    script = (
        "(() => {" + SCRIPT.replace("export default function (", "function npt_draw (", 1) + _ALONE
        + f'const host = document.getElementById("{name}");'
        + 'if (!host || host.shadowRoot) return; const root = host.attachShadow({ mode: "open" });'
        + f"root.innerHTML = {in_script(markup)};"
        + f"alone(root, {in_script(data)}, npt_draw) }})()"
    )  # fmt: skip
    return f'<div id="{name}"></div><script>{script}</script>'


def in_script(value: object) -> str:
    """A value as JavaScript that no text in it can end: "<" never stands in it."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _data(run: Inspection, layer: int, token: int) -> dict:
    metrics: dict[str, Metric] = {**METRICS, **(TOKEN_METRICS if run.kl is not None else {})}
    # Two views on one page are pinned apart.
    channel = f"npt-{uuid.uuid4().hex[:12]}"
    views = {name: _view(run, name, metric, layer, channel) for name, metric in metrics.items()}
    first = "recovered" if np.isfinite(run.layers[layer].recovered).any() else "relative_error"
    shared = {key: value for key, value in views[first].items() if key not in OF_A_METRIC}
    return {
        "first": first,
        "layer": layer,
        "layers": sorted(run.layers),
        "token": token,
        "view": shared | {"layer": layer, "name": channel},
        "metrics": {name: {key: view[key] for key in OF_A_METRIC} for name, view in views.items()},
        "next": [*_next("base", run.base_top), *_next("NPT", run.npt_top)],
    }


def _view(
    run: Inspection, name: str, metric: Metric, layer: int, channel: str, theme: Theme = "light"
) -> dict:
    layers: Sequence[int] = sorted(run.layers)
    of_model = name in TOKEN_METRICS
    values = (
        getattr(run, name)[None] if of_model else np.stack([run.layers[each].values(name) for each in layers])
    )
    columns = {}
    if run.base_top is not None and run.npt_top is not None:
        columns = {"next, base": first_choices(run.base_top), "next, NPT": first_choices(run.npt_top)}
    return token_view_data(
        run.pieces,
        values,
        colour_scale(metric, values[:, ~run.is_sink], theme),
        layers=[layer] if of_model else layers,
        layer=layer,
        names=["NPT model"] if of_model else None,
        left_out=run.is_sink,
        columns=columns,
        channel=channel,
    )


def _next(name: str, top: TopTokens | None) -> list[dict]:
    if top is None:
        return []
    return [
        {
            "name": f"next, {name}",
            "glyphs": [list(glyphs[:N_NEXT]) for glyphs in top.glyphs],
            "probabilities": np.asarray(top.probabilities)[:, :N_NEXT].astype(float).tolist(),
        }
    ]
