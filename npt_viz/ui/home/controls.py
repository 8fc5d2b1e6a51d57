"""Home page: how the layers of a checkpoint are read."""

import streamlit as st

from npt_viz.results.load_report import LoadReport
from npt_viz.ui.cache import opened
from npt_viz.ui.shell.text import plain


def semantics_choice(report: LoadReport) -> None:
    """Choice of the variant where the tensors allow several; what the layers compute and how that is known."""
    rules = {str(each.semantics["rule"]) for each in report.layers}
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    if len(rules) == 1:
        names = opened.variants_for(rules.pop())
        left.selectbox(
            "Read the layers as",
            ["", *names],
            key="semantics",
            format_func=lambda name: f"{name}: {names[name]}" if name else "as found",
            help="The tensors of N1 and N2, and of N3 and N4, have the same names: only you can know whether attention "
            "stays in the residual. A choice here goes into the link.",
            persist_state="session",
        )
    first = report.layers[0]
    path = {
        "withheld": "attention goes nowhere else: out = h + MLP′(z), which has to reconstruct a + MLP(z_C)",
        "beside": "attention is added beside the MLP: out = h + a + MLP′(z), which has to reconstruct MLP(z_C)",
        "standard": "attention is as in the base model: out = h + a + MLP′(z_C)",
    }[str(first.semantics["attention"])]
    provenance = (
        report.provenance if len(report.provenance) < 60 else "known in different ways for different layers"
    )
    alike = len({str(each.semantics["attention"]) for each in report.layers}) == 1
    where = "every layer" if alike and len(report.layers) > 1 else f"layer {first.layer}"
    right.markdown(f"**{plain(report.semantics)}**, {plain(provenance)}. In {where} {path}.")
