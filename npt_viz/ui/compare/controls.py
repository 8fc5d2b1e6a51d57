"""Compare page: what A is, in a line below the head, and what lies beneath each side."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.question import MODES, POSITIONS
from npt_viz.results.load_report import LoadReport
from npt_viz.ui.compare.state import change_a, report_of, side_a, swap
from npt_viz.ui.shell import state
from npt_viz.ui.shell.asked import selection
from npt_viz.ui.shell.examples import EXAMPLES
from npt_viz.ui.shell.found import checkpoints_here
from npt_viz.ui.shell.guarded import guarded_callback
from npt_viz.ui.shell.ledger_box import listed
from npt_viz.ui.shell.text import plain
from npt_viz.ui.widgets.head import short

AS_B = "layer of B"
"""In place of a layer: that of the head, where A has it. (A select box takes None for no choice.)"""


def side_line(report: LoadReport) -> None:
    """What A is, changed in place; B is the head above."""
    now = side_a()
    with st.container(key="head_a", horizontal=True, vertical_alignment="center"):
        st.markdown("**A**", width="content", help="B is the head above; A is pinned there, or set here.")
        _checkpoint(now)
        _layer(now)
        _choice("mode", "Evaluate A", MODES, now, width=116)
        _choice("positions", "Positions of A", POSITIONS, now, width=110)
        _running(now)
        _prompt(now)
        st.button("", key="a_swap", icon=":material/swap_vert:", on_click=swap, help="Exchange A and B")
        if st.session_state.get("a_side"):
            st.button(
                "",
                key="a_clear",
                icon=":material/close:",
                on_click=_clear,
                help="Take the pin off: A is then the head with the other positions.",
            )
        _beneath("A", now["edits"])
        _beneath("B", st.session_state["edits"])


def _checkpoint(now: dict) -> None:
    model = Path(st.session_state["model"]).name
    st.session_state["a_checkpoint"] = now["checkpoint"]
    st.selectbox(
        "Checkpoint of A",
        list(dict.fromkeys([*checkpoints_here(), *filter(None, [now["checkpoint"]])])),
        key="a_checkpoint",
        format_func=lambda path: short(Path(path).name.removeprefix(f"{model}-")),
        accept_new_options=True,
        on_change=_open,
        label_visibility="collapsed",
        width=236,
        help="Another checkpoint, another step of a training, or the same.",
    )


def _open() -> None:
    # Choices that belong to the checkpoint before are dropped.
    change_a(checkpoint=st.session_state["a_checkpoint"] or "", semantics="", on=[], layer=None)


def _layer(now: dict) -> None:
    layers = _layers_of_a(now)
    running = now["on"] or layers
    options: list[int | str] = [AS_B, *running, *({now["layer"]} - {None, *running})]
    st.session_state["a_layer"] = AS_B if now["layer"] is None else now["layer"]
    st.selectbox(
        "Layer of A",
        options,
        key="a_layer",
        format_func=lambda layer: layer if layer == AS_B else f"layer {layer}",
        on_change=_choose_layer,
        label_visibility="collapsed",
        width=120,
        help=f"{AS_B}: the layer that the head names, where A has it.",
    )


def _choose_layer() -> None:
    chosen = st.session_state["a_layer"]
    change_a(layer=None if chosen == AS_B else chosen)


def _choice(name: str, label: str, options: Sequence[str], now: dict, *, width: int) -> None:
    st.session_state[f"a_{name}"] = now[name]
    st.selectbox(
        label,
        options,
        key=f"a_{name}",
        on_change=_change,
        args=[name],
        label_visibility="collapsed",
        width=width,
    )


def _change(name: str) -> None:
    change_a(**{name: st.session_state[f"a_{name}"]})


def _running(now: dict) -> None:
    layers = _layers_of_a(now)
    if not layers:
        return
    count = len(set(now["on"]) & set(layers)) or len(layers)
    label = f"NPT: all {len(layers)}" if count == len(layers) > 1 else f"NPT: {count} of {len(layers)}"
    with st.popover(
        label if len(layers) > 1 else f"NPT: {layers[0]}", icon=":material/layers:", key="a_on_box"
    ):
        st.session_state["a_running"] = list(now["on"] or layers)
        st.pills(
            "Layers of A that run as NPT",
            layers,
            selection_mode="multi",
            key="a_running",
            on_change=_choose_running,
            args=[layers],
            help="Lit: runs as NPT. A layer that is off runs as in the base model. With none lit all of them run.",
        )


def _choose_running(layers: list[int]) -> None:
    chosen = sorted(st.session_state["a_running"])
    change_a(on=[] if len(chosen) in (0, len(layers)) else chosen)


def _layers_of_a(now: dict) -> list[int]:
    """NPT layers of A's checkpoint; none where it does not open, which the answer says."""
    try:
        return sorted(each.layer for each in report_of(now).layers)
    except NptVizError:
        return []


def _prompt(now: dict) -> None:
    is_same = now["prompt"] == st.session_state["prompt"]
    with st.popover("same prompt" if is_same else "own prompt", icon=":material/notes:", key="a_prompt_box"):
        st.session_state["a_prompt"] = now["prompt"]
        st.text_area("Prompt of A", key="a_prompt", on_change=_change, args=["prompt"], height=120, width=420)
        with st.container(horizontal=True):
            st.button("As B", key="a_prompt_as_b", on_click=_same_prompt, disabled=is_same)
            for name in EXAMPLES:
                st.button(name, key=f"a_example_{name}", on_click=_example, args=[name], type="tertiary")


def _same_prompt() -> None:
    here = state.side()
    change_a(**{name: here[name] for name in ("prompt", "chat", "bos")})


def _example(name: str) -> None:
    change_a(prompt=EXAMPLES[name], chat=False, bos="auto")


def _clear() -> None:
    st.session_state["a_side"] = None


def _beneath(side: str, chosen: Sequence[int]) -> None:
    """Which updates of the ledger lie beneath a side: none, or those up to one of them; nothing where there is none to choose."""
    lines = listed(selection())
    if not lines and not chosen:
        return
    numbers = [line.number for line in lines]
    options = [(), *(tuple(numbers[: i + 1]) for i in range(len(numbers)))]
    if tuple(chosen) not in options:
        options.append(tuple(chosen))
    key = f"compare_edits_{side}"
    st.session_state[key] = tuple(chosen)
    said = {line.number: plain(line.sentence) for line in lines}
    st.selectbox(
        f"Beneath {side}",
        options,
        key=key,
        format_func=lambda edits: f"{side} on {_named(edits)}",
        on_change=_put_beneath,
        args=[side],
        label_visibility="collapsed",
        width=190,
        help="  \n".join(["Permanent updates of the ledger beneath this side:", *said.values()]),
    )


def _named(edits: Sequence[int]) -> str:
    if not edits:
        return "the base"
    return f"base + #{edits[0]}" + (f" … #{edits[-1]}" if len(edits) > 1 else "")


@guarded_callback
def _put_beneath(side: str) -> None:
    chosen = list(st.session_state[f"compare_edits_{side}"])
    if side == "A":
        change_a(edits=chosen)
    else:
        st.session_state["edits"] = chosen
