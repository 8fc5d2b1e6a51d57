"""Attribution page: which number, by which methods, against which stand-in token."""

import streamlit as st

from npt_viz.results.attribution import METHODS, Quantity
from npt_viz.results.words import percent
from npt_viz.ui.inspect.attribution.state import (
    STRONGEST,
    candidate_tokens,
    settled_quantity,
    strongest_component,
)
from npt_viz.ui.widgets.view import View

KINDS = {"scalar": "scalar v_a·x", "update_norm": "‖ΔW‖", "logit": "next-token logit"}

STEPS = (64, 128, 256, 512)


def choices(view: View) -> None:
    """Choice of the quantity, the methods and their settings, in one line where it fits."""
    quantity = settled_quantity(view)
    with st.container(horizontal=True, vertical_alignment="center", key="attribution_choices"):
        st.segmented_control(
            "Attribute", list(KINDS), key="attribution_kind", format_func=KINDS.__getitem__, required=True,
            persist_state="session", label_visibility="collapsed",
        )  # fmt: skip
        if quantity.kind == "logit":
            _logit_choices(view)
        else:
            _vector_choices(view, quantity)
    with st.container(horizontal=True, vertical_alignment="center", key="attribution_ways"):
        st.pills(
            "Methods",
            list(METHODS),
            key="attribution_methods",
            selection_mode="multi",
            format_func=lambda name: METHODS[name].label,
            persist_state="session",
            label_visibility="collapsed",
            width="content",
        )
        _settings()


def _vector_choices(view: View, quantity: Quantity) -> None:
    layer = view.run.layers[view.layer]
    if len(layer.scalars) > 1:
        st.selectbox(
            "Target", list(layer.scalars), key="attribution_target", persist_state="session",
            label_visibility="collapsed", width=110,
        )  # fmt: skip
    n_components = layer.scalars[quantity.target].shape[1]
    if quantity.kind != "scalar" or n_components < 2:
        return
    strongest, share = strongest_component(view, quantity.target)

    def named(component: int | str) -> str:
        return (
            f"component {strongest}, the strongest here ({percent(share)})"
            if component == STRONGEST
            else f"component {component}"
        )

    st.selectbox(
        "Component",
        [STRONGEST, *range(n_components)],
        key="attribution_component",
        format_func=named,
        persist_state="session",
        label_visibility="collapsed",
        width=320,
        help="The strongest is the one that adds most at the pinned token: its share of the components' ‖s_j v_b,j‖.",
    )


def _logit_choices(view: View) -> None:
    ids = candidate_tokens(view)
    st.selectbox(
        "Of the model", ["NPT", "base"], key="attribution_model", persist_state="session",
        format_func=lambda name: f"{name} model", label_visibility="collapsed", width=130,
    )  # fmt: skip
    st.selectbox(
        "Logit of", list(ids), key="attribution_of", format_func=lambda token_id: f"of {ids[token_id]}",
        persist_state="session", label_visibility="collapsed", width=170,
    )  # fmt: skip
    st.selectbox(
        "minus that of",
        [None, *ids],
        key="attribution_against",
        format_func=lambda token_id: "minus nothing" if token_id is None else f"minus {ids[token_id]}",
        persist_state="session",
        label_visibility="collapsed",
        width=190,
        help="Next tokens that base or NPT model finds likely. A difference leaves out what lifts all logits alike.",
    )


def _settings() -> None:
    with st.popover("Settings", icon=":material/tune:"):
        st.segmented_control(
            "Stand-in",
            ["eos", "pad"],
            key="attribution_baseline",
            required=True,
            persist_state="session",
            help="The token that takes another's place. Token 0, the attention sink, is never replaced.",
        )
        st.select_slider(
            "Steps of integrated gradients", STEPS, key="attribution_steps", persist_state="session"
        )
        st.caption(
            "\n\n".join(f"**{info.label}**: {info.meaning}." for info in METHODS.values())
            + "\n\nMethods disagree; only an ablation is a run that really happened."
        )
