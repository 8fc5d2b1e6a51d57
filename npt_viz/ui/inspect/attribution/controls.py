"""Attribution page: which number, by which methods, against which stand-in token."""

import streamlit as st

from npt_viz.results.attribution import METHODS
from npt_viz.ui.inspect.attribution.state import candidate_tokens, settled_quantity
from npt_viz.ui.widgets.view import View

KINDS = {"scalar": "scalar v_a·x", "update_norm": "‖ΔW‖", "logit": "next-token logit"}

STEPS = (64, 128, 256, 512)


def choices(view: View) -> None:
    """Choice of the quantity, the stand-in token and the methods."""
    quantity = settled_quantity(view)
    place = st.columns([2.4, 1.2, 1.6, 1.6], vertical_alignment="bottom")
    place[0].segmented_control(
        "Attribute", list(KINDS), key="attribution_kind", format_func=KINDS.__getitem__, required=True,
        persist_state="session", width="stretch",
    )  # fmt: skip
    if quantity.kind == "logit":
        _logit_choices(view, place)
    else:
        scalars = view.run.layers[view.layer].scalars
        place[1].selectbox("Target", list(scalars), key="attribution_target", persist_state="session")
        if quantity.kind == "scalar":
            place[2].selectbox(
                "Component",
                range(max(1, scalars[quantity.target].shape[1])),
                key="attribution_component",
                persist_state="session",
                help="Begins with the component that adds most at the pinned token, by ‖s_j v_b,j‖.",
            )
    left, right = st.columns([5, 1.3], vertical_alignment="bottom")
    left.pills(
        "Methods",
        list(METHODS),
        key="attribution_methods",
        selection_mode="multi",
        format_func=lambda name: METHODS[name].label,
        persist_state="session",
        help="\n\n".join(f"**{info.label}**: {info.meaning}." for info in METHODS.values())
        + "\n\nMethods disagree; only an ablation is a run that really happened.",
    )
    _settings(right)


def _logit_choices(view: View, place) -> None:
    ids = candidate_tokens(view)
    place[1].selectbox("Of the model", ["NPT", "base"], key="attribution_model", persist_state="session")
    place[2].selectbox(
        "Logit of", list(ids), key="attribution_of", format_func=ids.get, persist_state="session"
    )
    place[3].selectbox(
        "minus that of",
        [None, *ids],
        key="attribution_against",
        format_func=lambda token_id: "nothing" if token_id is None else ids[token_id],
        persist_state="session",
        help="Next tokens that base or NPT model finds likely. A difference leaves out what lifts all logits alike.",
    )


def _settings(place) -> None:
    with place.popover("Settings", width="stretch"):
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
