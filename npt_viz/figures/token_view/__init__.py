"""Token view: a prompt as strip, profile and layer × token map, drawn and pinned in the browser.

Here is what it draws, as plain JSON, and the scripts that draw it, for the app and for a file or notebook without a server.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from npt_viz.figures.profiles import value_range
from npt_viz.figures.theme import ColourScale, ink_on
from npt_viz.results.inspection import Token, TopTokens
from npt_viz.results.words import counted

Part = Literal["strip", "profile", "map"]

HEIGHTS: dict[Part, int] = {"strip": 150, "profile": 84, "map": 240}
"""Pixels that a part takes at most."""

SHADES = 256
"""Colours between the two ends of a scale."""

_ROW = (3, 24)
"""Pixels of a row of the map, at least and at most."""

_AROUND: dict[Part, int] = {"strip": 93, "profile": 35, "map": 19}
"""Pixels that a part takes at least beside its bars and rows: tools and two lines, caption and gap, axis."""

HERE = Path(__file__).parent
HTML = """
<div class="npt-view" style="min-height: {reserved}px">
  <div class="bar"><div class="tools"></div><div class="legend"></div></div>
  <div class="tokens" role="group" aria-label="tokens of the prompt"><div class="sheet"></div></div>
  <textarea class="editor" aria-label="prompt" spellcheck="false" hidden></textarea>
  <div class="caption"></div>
  <div class="plots">
    <canvas class="base"></canvas><canvas class="over"></canvas>
    <div class="scroller"><div class="spacer"></div></div>
  </div>
  <div class="tip" role="tooltip" hidden></div>
  <div class="spoken" aria-live="polite"></div>
</div>
"""
"""What a view is drawn into; `reserved` pixels are taken before the script runs."""

CSS = (HERE / "view.css").read_text(encoding="utf-8")

SCRIPT = "\n".join(
    (HERE / name).read_text(encoding="utf-8") for name in ("strip.js", "plots.js", "prompt.js", "view.js")
)
"""One module whose default function draws; the parts share its scope."""


@dataclass(frozen=True, kw_only=True)
class PromptBox:
    """What the prompt can be edited to, in place of the strip."""

    text: str
    """The prompt as it was typed, which is what is shown."""

    chat: bool = False
    bos: Literal["auto", "yes", "no"] = "auto"
    examples: Mapping[str, str] = field(default_factory=dict)
    """Name -> prompt."""


def token_view_data(
    pieces: Sequence[Token],
    values: np.ndarray,
    scale: ColourScale,
    *,
    layers: Sequence[int],
    layer: int,
    names: Sequence[str] | None = None,
    left_out: np.ndarray | None = None,
    columns: Mapping[str, Sequence[str] | np.ndarray] | None = None,
    parts: Sequence[Part] = ("strip", "profile", "map"),
    heights: Mapping[Part, int] | None = None,
    prompt: PromptBox | None = None,
    channel: str = "prompt",
) -> dict:
    """Texts, numbers and colours that the browser draws, as plain JSON; no code.

    values: (layer, token), a row for each of `layers`; NaN where there is no number.
    layer: the row that strip and profile show until another layer is pinned.
    names: what the rows are called where it is not their layer.
    left_out: (token,) bool, attention sinks: hatched instead of coloured, and in no median.
    columns: label -> (token,) numbers or texts, the rows of a token's tooltip; they belong to `layer`.
    prompt: None where the prompt cannot be edited here. Without tokens the view is the box to edit it.
    channel: views of the same channel follow the same pin.
    Raises ValueError where the shapes do not go together.
    """
    values = np.asarray(values, np.float32)
    if values.shape != (len(layers), len(pieces)):
        raise ValueError(f"values {values.shape} do not fit {len(layers)} layers and {len(pieces)} tokens")
    if layer not in layers:
        raise ValueError(f"layer {layer} is none of the rows, which are {', '.join(map(str, layers))}")
    hidden = np.zeros(len(pieces), bool) if left_out is None else np.asarray(left_out, bool)
    pixels = HEIGHTS | dict(heights or {})
    row_height = int(np.clip((pixels["map"] - _AROUND["map"]) // len(layers), *_ROW))
    drawn: dict[Part, int] = {"strip": 0, "profile": pixels["profile"], "map": row_height * len(layers)}
    made = {
        "theme": scale.theme,
        "parts": list(parts),
        "heights": pixels,
        "row_height": row_height,
        "reserved": sum(drawn[part] + _AROUND[part] for part in parts),
        "channel": channel,
        "prompt": prompt and _boxed(prompt),
        "count": _count(pieces, hidden),
        "glyphs": [piece.glyph for piece in pieces],
        "kinds": [piece.kind for piece in pieces],
        "ids": [int(piece.id) for piece in pieces],
        "raws": [piece.raw for piece in pieces],
        "left_out": np.flatnonzero(hidden).tolist(),
        "layers": [int(each) for each in layers],
        "layer": int(layer),
        "rows": [_row(row, hidden, scale) for row in values],
        "names": list(names) if names else [f"layer {each}" for each in layers],
        "numbered": names is None,
        "values": encoded(values),
        "columns": [_column(label, column) for label, column in (columns or {}).items()],
        "metric": _metric(scale),
    }
    # The browser draws anew only where something changed.
    made["digest"] = hashlib.blake2b(json.dumps(made, allow_nan=False).encode(), digest_size=12).hexdigest()
    return made


def first_choices(top: TopTokens) -> list[str]:
    """Most probable next token after each token, with its probability: a column of the tooltip."""
    return [f"{glyphs[0]} {p:.2f}" for glyphs, p in zip(top.glyphs, top.probabilities[:, 0], strict=True)]


def encoded(values: np.ndarray) -> str:
    """Little-endian float32 in base64, row after row."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")


def _boxed(prompt: PromptBox) -> dict:
    return {
        # A text area knows no other newline.
        "text": prompt.text.replace("\r\n", "\n").replace("\r", "\n"),
        "chat": prompt.chat,
        "bos": prompt.bos,
        "examples": [list(item) for item in prompt.examples.items()],
    }


def _count(pieces: Sequence[Token], hidden: np.ndarray) -> str:
    count = counted(len(pieces), "token")
    return f"{count}, {counted(int(hidden.sum()), 'sink')} left out" if hidden.any() else count


def _row(row: np.ndarray, hidden: np.ndarray, scale: ColourScale) -> dict:
    """Range and median of one layer over the tokens that count; None where there are none."""
    kept = row[~hidden & np.isfinite(row)].astype(float)
    floor = 0.0 if scale.metric.reference is None else scale.metric.reference
    low, high = value_range(kept, floor)
    return {
        "low": float(low),
        "high": float(high),
        "least": float(kept.min()) if kept.size else None,
        "most": float(kept.max()) if kept.size else None,
        "median": float(np.median(kept)) if kept.size else None,
    }


def _column(label: str, column: Sequence[str] | np.ndarray) -> dict:
    if isinstance(column, np.ndarray):
        return {"label": label, "numbers": encoded(column)}
    return {"label": label, "texts": list(column)}


def _metric(scale: ColourScale) -> dict:
    metric = scale.metric
    shades = [c or "" for c in scale.colours(np.linspace(scale.low, scale.high, SHADES))]
    return {
        "label": metric.label,
        "meaning": metric.meaning,
        "unit": metric.unit,
        "reference": metric.reference,
        "low": scale.low,
        "high": scale.high,
        "shades": shades,
        "inks": [ink_on(shade, scale.theme) for shade in shades],
    }
