"""Nothing but two token views: the page that test_token_view.py serves. Made-up numbers, no model.

?tokens=8&rows=3&columns=1&prompt=TEXT&slow=SECONDS&boxed=1&second=1: slow is how long the server takes for a pin.
"""

import json
import time

import numpy as np
import streamlit as st

from npt_viz.figures.theme import colour_scale
from npt_viz.results.inspection import METRICS, Token
from npt_viz.ui.widgets.token_view import PromptBox, pin_signal, token_view, token_view_data

WORDS = [
    "The",
    "␣capital",
    "␣of",
    "␣France",
    "␣is",
    "␣Paris",
    ".",
    "␣The",
    "↵↵",
    "␣␣␣␣return",
    "␣fibonacci",
    "(",
    "n",
    ")",
    "⟨0xE2⟩",
    "␣東京",
    "<b>",
    "&amp;",
]
EXAMPLES = {"capitals": "The capital of France is", "code": "def f(n):\n    return n"}

asked = st.query_params
state = st.session_state
state.setdefault("prompt", asked.get("prompt", " ".join(WORDS)))
state.setdefault("tok", int(asked.get("tok", 1)))
state.setdefault("layer", None)
state.setdefault("heard", [])
theme = "dark" if st.context.theme.type == "dark" else "light"


def pin(token: int, layer: int | None) -> None:
    time.sleep(float(asked.get("slow", 0)))
    state["tok"] = token
    state["layer"] = state["layer"] if layer is None else layer
    state["heard"].append([token, layer])


def ask(prompt: str, chat: bool, bos: str) -> None:
    state.update(prompt=prompt, asked=[prompt, chat, bos])


def pieces(n: int) -> list[Token]:
    if not n:
        return []
    words = list(state["prompt"]) if "prompt" in asked or "asked" in state else WORDS
    made = [words[i % len(words)] for i in range(n)]
    kinds = [
        "special" if i == 0 and n > 1 else "bytes" if w.startswith("⟨") else "text"
        for i, w in enumerate(made)
    ]
    made[0] = "<|im_start|>" if kinds[0] == "special" else made[0]
    return [
        Token(word, kind, 7 * i, repr(word)) for i, (word, kind) in enumerate(zip(made, kinds, strict=True))
    ]


n, rows = int(asked.get("tokens", 8)), int(asked.get("rows", 3))
if "asked" in state:
    n = len(state["prompt"])
drawn = np.random.default_rng(0)
values = np.abs(drawn.normal(0.5, 0.35, (rows, n)) * np.linspace(0.5, 1.4, rows)[:, None]).astype(np.float32)
metric = METRICS[asked.get("metric", "relative_error")]
if metric.signed:
    values -= 0.5
left_out = np.zeros(n, bool)
if n > 1:
    left_out[0] = True
    values[:, 0] = 40
if n > 2:
    values[0, 2] = np.nan
if n:
    values[:, -1] = 0.125
layers = [2 * i + 3 for i in range(rows)]
data = token_view_data(
    pieces(n),
    values,
    colour_scale(metric, values[:, ~left_out], theme),
    layers=layers,
    layer=layers[rows // 2],
    left_out=left_out,
    columns={
        metric.label: values[rows // 2],
        "cosine": drawn.uniform(-1, 1, n),
        **{f"column {i}": drawn.normal(size=n) for i in range(int(asked.get("columns", 1)))},
        "next, base": [f"␣word{i} 0.{i % 90 + 10}" for i in range(n)],
    },
    prompt=PromptBox(text=state["prompt"], examples=EXAMPLES) if asked.get("boxed", "1") == "1" else None,
    heights={"strip": int(asked.get("strip", 150))},
)


@st.fragment
def body() -> None:
    if not state.get("gone"):
        token_view(data, key="view", on_pin=pin, on_ask=ask)
    if not state.get("gone") and asked.get("second", "1") == "1":
        second = token_view_data(
            pieces(n),
            values[:1],
            colour_scale(metric, values[:1], theme),
            layers=layers[:1],
            layer=layers[0],
            parts=("strip",),
            heights={"strip": 60},
        )
        token_view(second, key="second", on_pin=pin)
    if not state.get("gone"):
        pin_signal(state["tok"], state["layer"], key="signal")
    st.html(f"<pre class=heard>{json.dumps(state['heard'])}</pre>")
    st.html(f"<pre class=asked>{json.dumps(state.get('asked'))}</pre>")
    st.button("Remount", on_click=lambda: state.update(gone=not state.get("gone")))
    st.button("Server pins 3", on_click=lambda: state.update(tok=3))


body()
