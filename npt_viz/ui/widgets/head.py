"""Head of a page: its question, and one line that says, and changes, what is looked at."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from npt_viz.question import MODES, POSITIONS
from npt_viz.results.glossary import PAGES, explained
from npt_viz.results.load_report import LoadReport
from npt_viz.ui.cache.uploads import uploaded_checkpoint
from npt_viz.ui.shell import state
from npt_viz.ui.shell.asked import open_checkpoint, selection
from npt_viz.ui.shell.found import checkpoints_here
from npt_viz.ui.shell.ledger_box import ledger_list, listed
from npt_viz.ui.shell.nav import page_file
from npt_viz.ui.shell.text import plain
from npt_viz.ui.widgets import sheet

MODELS = ("smollm2-135m",)
LONGEST_NAME = 30
"""Characters of a name that fit into the head; of a longer one the start and the end are shown."""

DTYPE_HELP = "Of the base model. auto: its own on a GPU, float32 on the CPU. Adapters are float32 always."
MODE_HELP = (
    "**local**: every NPT layer is fed the base model's own h and a, as in training; layers do not influence each "
    "other.\n\n**propagated**: the NPT model really runs and errors add up; this is what a user gets."
)
POSITIONS_HELP = (
    "**deployed**: RoPE and causal attention.\n\n**trained**: identity positions (no RoPE), as the public training "
    "code ran attention."
)

_link = st.components.v2.component(
    "npt_link",
    html='<div class="npt-link"><input readonly aria-label="address of this view"><button type="button">Copy</button></div>',
    css=(Path(__file__).parent / "link.css").read_text(encoding="utf-8"),
    js=(Path(__file__).parent / "link.js").read_text(encoding="utf-8"),
)


def page_title(title: str, question: str) -> None:
    """Draw the page's name and the question that it answers; the meaning of its numbers is one hover away."""
    sheet.begin(title, question)
    terms = PAGES.get(title, ())
    with st.container(key="page_title", horizontal=True, vertical_alignment="center", gap="small"):
        st.html(f'<div class="npt-title"><h1>{title}</h1><span>{question}</span></div>', width="content")
        if terms:
            st.markdown(":small[Numbers]", help=meanings(terms), width="content")


def meanings(terms: Sequence[str]) -> str:
    """What terms mean, as safe Markdown: one paragraph each, and where all others are."""
    lines = [f"**{plain(term)}**: {plain(explained(term))}" for term in terms]
    return "\n\n".join([*lines, "Every other number is in the Glossary."])


def source_bar(*, asks: bool) -> "st.delta_generator.DeltaGenerator":
    """First part of the head's line: model and checkpoint; returns the line, which `question_bar` completes.

    asks: False where the page asks nothing about a prompt; the line is then whole.
    """
    line = st.container(key="head", horizontal=True, vertical_alignment="center")
    with line:
        _model()
        _checkpoint()
        if not asks:
            _ledger()
            _link_to_view()
    return line


def question_bar(line, report: LoadReport, running: Sequence[int], *, pins: bool = True) -> None:
    """Second part of the head's line: layer, mode, positions, layers that run, ledger, A to compare with, link.

    pins: False where the page has a line for A.
    """
    variants = {each.layer: each.variant for each in report.layers}
    with line:
        st.selectbox(
            "Layer",
            running,
            key="layer",
            format_func=lambda layer: f"layer {layer} · {variants[layer]}",
            label_visibility="collapsed",
            width=120,
            help="The layer that the page looks at, with its variant.",
        )
        st.selectbox(
            "Evaluate",
            MODES,
            key="mode",
            label_visibility="collapsed",
            width=116,
            help=MODE_HELP,
        )
        st.selectbox(
            "Positions",
            POSITIONS,
            key="positions",
            label_visibility="collapsed",
            width=110,
            help=POSITIONS_HELP,
        )
        _running_layers(variants, running)
        _ledger()
        if pins:
            _other_side()
        _link_to_view()


def short(name: str) -> str:
    """A name that fits: a long one by its start and its end."""
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 11]}…{name[-10:]}"


def _model() -> None:
    chosen = st.session_state["model"]
    with st.popover(
        plain(short(Path(chosen).name or chosen)), icon=":material/deployed_code:", key="head_model"
    ):
        st.selectbox(
            "Base model",
            list(dict.fromkeys([*MODELS, chosen])),
            key="model",
            accept_new_options=True,
            help="An alias, a local folder, a `.gguf` file, or a hub id (owner/name). Type to enter one.",
        )
        st.selectbox(
            "Precision",
            ["auto", "float32", "bfloat16", "float16"],
            key="dtype",
            help=DTYPE_HELP,
        )
        st.text_input(
            "Device",
            key="device",
            help="auto, cpu, cuda, cuda:1, mps; map spreads the model over all devices.",
        )
        st.markdown("**Or upload a checkpoint file**")
        if path := uploaded_checkpoint():
            st.button("Open it", key="upload_open", on_click=open_checkpoint, args=[str(path)])


def _checkpoint() -> None:
    chosen, model = st.session_state["checkpoint"], Path(st.session_state["model"]).name
    st.selectbox(
        "NPT checkpoint",
        list(dict.fromkeys([*checkpoints_here(), *filter(None, [chosen])])),
        key="checkpoint",
        format_func=lambda path: short(Path(path).name.removeprefix(f"{model}-")),
        accept_new_options=True,
        placeholder="Path of a checkpoint",
        on_change=lambda: open_checkpoint(st.session_state["checkpoint"]),
        label_visibility="collapsed",
        width=236,
        help="A demo checkpoint, or type the path of a file, folder or run directory of any format.",
    )


def _running_layers(variants: dict[int, str], running: Sequence[int]) -> None:
    layers, session = list(variants), st.session_state
    count = f"all {len(layers)}" if len(layers) > 1 else str(layers[0])
    label = f"NPT: {count if len(running) == len(layers) else f'{len(running)} of {len(layers)}'}"
    with st.popover(label, icon=":material/layers:", key="head_on", help="Layers that run as NPT"):
        # Lit is on: the pills show what runs, also where no choice means all.
        session["head_running"] = list(running)
        st.pills(
            "Layers that run as NPT",
            layers,
            selection_mode="multi",
            key="head_running",
            on_change=_choose_running,
            args=[layers],
            help="Lit: runs as NPT. A layer that is off runs as in the base model. With none lit all of them run.",
        )


def _choose_running(layers: list[int]) -> None:
    chosen = sorted(st.session_state["head_running"])
    st.session_state["on"] = [] if len(chosen) in (0, len(layers)) else chosen


def _ledger() -> None:
    n = len(listed(selection()))
    with st.popover(
        str(n), icon=":material/edit_note:", key="head_ledger", help="Permanent updates in the ledger"
    ):
        ledger_list(selection())


def _other_side() -> None:
    other = st.session_state.get("a_side")
    with st.popover("", icon=":material/compare:", key="head_compare", help="Compare with another view, A"):
        st.caption(f"Pinned as A: {_described(other)}" if other else "Nothing is pinned as A yet.")
        st.button(
            "Pin this as A",
            key="pin_as_a",
            icon=":material/push_pin:",
            on_click=state.pin_as_a,
            # What this page shows is the base without the ledger.
            kwargs={"edits": []},
            help="Then look at something else, and compare it with A.",
        )
        st.page_link(
            page_file("compare"),
            label="Compare with A" if other else "Compare",
            icon=":material/arrow_forward:",
        )


def _described(other: dict) -> str:
    """What is pinned as A, in a line, as safe Markdown."""
    layer = "" if other["layer"] is None else f", layer {other['layer']}"
    prompt = " ".join(other["prompt"].split())
    where = f"{short(Path(other['checkpoint'] or '').name)}{layer}, {other['mode']}, {other['positions']}, "
    return plain(f"{where}“{prompt[:LONGEST_NAME]}{'…' * (len(prompt) > LONGEST_NAME)}”")


def _link_to_view() -> None:
    with st.popover("", icon=":material/link:", key="head_link", help="Link to this view"):
        _link(key="link")
        st.toggle(
            "Leave my prompt out",
            key="private",
            help="The address then holds no text of yours. Elsewhere it opens an example, without your pin.",
        )
