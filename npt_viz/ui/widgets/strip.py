"""Token strip: the prompt as coloured, clickable tokens."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import streamlit as st

from npt_viz.figures.theme import ColourScale, ink_on, number
from npt_viz.results.inspection import Token
from npt_viz.ui.widgets.token_view import first_choices as first_choices

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "npt_token_strip",
    html=(
        '<div class="npt-strip"><div class="legend"></div>'
        '<div class="tokens" role="group" aria-label="tokens of the prompt"></div>'
        '<div class="tip" role="tooltip" hidden></div></div>'
    ),
    css=(_HERE / "strip.css").read_text(encoding="utf-8"),
    js=(_HERE / "strip.js").read_text(encoding="utf-8"),
)


def token_strip(
    pieces: Sequence[Token],
    values: np.ndarray,
    scale: ColourScale,
    *,
    key: str,
    pinned: int | None,
    on_pin: Callable[[int], None],
    left_out: np.ndarray | None = None,
    columns: Mapping[str, Sequence | np.ndarray] | None = None,
) -> None:
    """Draw the token strip; a click, or Enter on a focused token, calls `on_pin(index)` and reruns.

    values: (token,) what is coloured. left_out: (token,) bool, hatched instead of coloured.
    columns: label -> (token,), numbers or texts, the rows of the tooltip.
    """

    def pin() -> None:
        index = st.session_state[key].get("pinned")
        if index is not None:
            on_pin(int(index))

    _component(
        data=strip_data(pieces, values, scale, pinned=pinned, left_out=left_out, columns=columns or {}),
        key=key,
        on_pinned_change=pin,
    )


def strip_data(
    pieces: Sequence[Token],
    values: np.ndarray,
    scale: ColourScale,
    *,
    pinned: int | None,
    left_out: np.ndarray | None,
    columns: Mapping[str, Sequence | np.ndarray],
) -> dict:
    """Texts and colours that the browser draws; no code."""
    colours = scale.colours(values)
    hidden = [False] * len(pieces) if left_out is None else [bool(x) for x in left_out]
    metric = scale.metric
    count = f"{len(pieces):,} token{'s' * (len(pieces) != 1)}"
    if any(hidden):
        count += f", {sum(hidden)} sink{'s' * (sum(hidden) != 1)} left out"
    return {
        "glyphs": [piece.glyph for piece in pieces],
        "kinds": [piece.kind for piece in pieces],
        "ids": [piece.id for piece in pieces],
        "raws": [piece.raw for piece in pieces],
        "colours": colours,
        "inks": [ink_on(colour, scale.theme) for colour in colours],
        "left_out": hidden,
        "pinned": pinned,
        "spoken": [
            f"{piece.glyph}, token {i}, {metric.label} {number(value)}"
            for i, (piece, value) in enumerate(zip(pieces, values, strict=True))
        ],
        "columns": [
            {"label": label, "values": [_text(v) for v in column], "coloured": label == metric.label}
            for label, column in columns.items()
        ],
        "legend": {
            "label": metric.label,
            "meaning": metric.meaning + (f"  [{metric.unit}]" if metric.unit else ""),
            "low": number(scale.low),
            "high": number(scale.high),
            "stops": list(scale.stops),
            "count": count,
        },
    }


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else number(float(value))
