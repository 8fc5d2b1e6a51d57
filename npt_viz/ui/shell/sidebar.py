"""Sidebar: model, checkpoint, prompt, mode and positions. Drawn on every page, so that the values stay."""

from pathlib import Path

import streamlit as st

from npt_viz.places import ROOT
from npt_viz.question import MODES, POSITIONS, Bos, Question
from npt_viz.ui.cache.opened import Asked, Selection, stamp
from npt_viz.ui.cache.uploads import uploaded_checkpoint
from npt_viz.ui.shell import state
from npt_viz.ui.shell.examples import EXAMPLES, example_id

MODELS = ("smollm2-135m",)

_edited = st.components.v2.component(
    "npt_edited", html="<span></span>", js=(Path(__file__).parent / "edited.js").read_text(encoding="utf-8")
)

DTYPE_HELP = "Of the base model. auto: its own on a GPU, float32 on the CPU. Adapters are float32 always."
MODE_HELP = (
    "**local**: every NPT layer is fed the base model's own h and a, as in training; layers do not influence each "
    "other.\n\n**propagated**: the NPT model really runs and errors add up; this is what a user gets."
)
POSITIONS_HELP = (
    "**deployed**: RoPE and causal attention.\n\n**trained**: identity positions (no RoPE), as the public training "
    "code ran attention."
)


BOS: dict[str, Bos] = {"auto": "auto", "yes": True, "no": False}
"""The choices of the widget and what they are in a question."""


def sidebar() -> None:
    """Pickers for model, checkpoint and prompt, and how to evaluate."""
    with st.sidebar:
        _model_picker()
        _checkpoint_picker()
        _prompt_form()
        st.segmented_control("Evaluate", MODES, key="mode", required=True, help=MODE_HELP, width="stretch")
        st.segmented_control(
            "Positions",
            POSITIONS,
            key="positions",
            required=True,
            help=POSITIONS_HELP,
            width="stretch",
        )


def selection() -> Selection:
    """Base model and checkpoint that the sidebar names."""
    session = st.session_state
    model, checkpoint = session["model"], session["checkpoint"] or ""
    return Selection(
        model,
        stamp(model),
        session["dtype"],
        session["device"],
        checkpoint,
        stamp(checkpoint) if checkpoint else "",
        session["semantics"],
    )


def asked() -> Asked:
    """Question that the sidebar and the head ask. Raises NptVizError where its parts do not go together."""
    session = st.session_state
    question = Question(
        prompt=session["prompt"],
        layers=tuple(session["on"]) or None,
        mode=session["mode"],
        positions=session["positions"],
        chat=session["chat"],
        bos=BOS[session["bos"]],
    )
    return Asked(selection(), question)


def checkpoints_here() -> list[str]:
    """The demo checkpoints and those in checkpoints/ of the current folder, as short paths; healthy ones first."""
    folders = {
        str(config.parent.relative_to(root))
        for root in (ROOT, Path.cwd())
        for config in root.glob("checkpoints/*/npt_config.json")
    }
    return sorted(folders, key=lambda path: ("unhealthy" in path, path))


def _model_picker() -> None:
    chosen = st.session_state["model"]
    st.selectbox(
        "Base model",
        list(dict.fromkeys([*MODELS, chosen])),
        key="model",
        accept_new_options=True,
        help="An alias, a local folder, a `.gguf` file, or a hub id (owner/name). Type to enter one.",
    )
    with st.popover("Precision and device", width="stretch", type="tertiary", icon=":material/memory:"):
        st.selectbox("Precision", ["auto", "float32", "bfloat16", "float16"], key="dtype", help=DTYPE_HELP)
        st.text_input(
            "Device",
            key="device",
            help="auto, cpu, cuda, cuda:1, mps; map spreads the model over all devices.",
        )


def _checkpoint_picker() -> None:
    offered = checkpoints_here()
    if not st.session_state["checkpoint"] and offered:
        st.session_state["checkpoint"] = offered[0]
    chosen = st.session_state["checkpoint"]
    st.selectbox(
        "NPT checkpoint",
        list(dict.fromkeys([*offered, *filter(None, [chosen])])),
        key="checkpoint",
        format_func=lambda path: Path(path).name,
        accept_new_options=True,
        placeholder="Path of a checkpoint",
        on_change=_other_checkpoint,
        help="A demo checkpoint, or the path of a file, folder or run directory of formats A, B, C or native.",
    )
    with st.popover("Upload a file", width="stretch", type="tertiary", icon=":material/upload_file:"):
        if path := uploaded_checkpoint():
            st.button("Open it", key="upload_open", on_click=_open, args=[str(path)])


def _open(path: str) -> None:
    st.session_state["checkpoint"] = path
    _other_checkpoint()


def _other_checkpoint() -> None:
    """Reset the choices that belong to the checkpoint before."""
    st.session_state.update(semantics="", on=[], layer=None)
    st.session_state["checkpoint"] = st.session_state["checkpoint"] or ""


def _prompt_form() -> None:
    st.selectbox(
        "Prompt",
        list(EXAMPLES),
        index=None,
        key="example_pick",
        placeholder="Take an example",
        on_change=_use_example,
        help="Shown token by token on every page. Edit it below and press Inspect.",
    )
    with st.form("prompt_form", border=False):
        st.text_area("Text of the prompt", key="prompt", height=132, label_visibility="collapsed")
        st.form_submit_button("Inspect", type="primary", width="stretch", key="prompt_submit")
    with st.container(key="prompt_edited"):  # app.css shows it while there is something to say
        st.markdown(":orange[Edited: press Inspect. The pages still show the prompt before.]")
        _edited(data={"prompt": st.session_state["prompt"]}, key="prompt_edited_watch")
    # Outside the form: they hold at once, for the prompt that is shown.
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    left.selectbox(
        "BOS token",
        list(BOS),
        key="bos",
        format_func="BOS: {}".format,
        label_visibility="collapsed",
        help="auto: as the model's tokenizer does it by itself.",
    )
    right.checkbox("Chat", key="chat", help="Wrap the prompt in the model's chat template.")


def _use_example() -> None:
    if chosen := st.session_state["example_pick"]:
        st.session_state["prompt"] = EXAMPLES[chosen]
        st.session_state["example_pick"] = None


def share() -> None:
    """Link to this view, with the prompt's text only where the user says so."""
    with st.sidebar.popover("Link to this view", icon=":material/link:", width="stretch", type="tertiary"):
        own = example_id(st.session_state["prompt"]) is None
        with_prompt = own and st.checkbox(
            "Put the prompt's text into the link",
            key="share_prompt",
            help="Prompts can be private: without this the link opens the default prompt.",
        )
        st.code(state.link(with_prompt=with_prompt), language=None, wrap_lines=True)
