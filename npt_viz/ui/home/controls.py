"""Home page: how the layers of a checkpoint are read."""

from pathlib import Path

import streamlit as st

from npt_viz.results.load_report import LoadReport
from npt_viz.ui.cache import opened
from npt_viz.ui.shell.asked import open_checkpoint
from npt_viz.ui.shell.text import plain


def semantics_choice(report: LoadReport) -> None:
    """Choice of the variant where the tensors allow several; what the layers compute and how that is known."""
    readings = {each.readings for each in report.layers}
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    if len(readings) == 1:
        names = opened.summaries(readings.pop())
        left.selectbox(
            "Read the layers as",
            ["", *names],
            key="semantics",
            format_func=lambda name: f"{name}: {names[name]}" if name else "as found",
            help="Variants whose tensors have the same names: N1 and N2, N3 and N4, the three readings of S0, the recipes of "
            "S1. Only you can know which code made the file. A choice here goes into the link.",
            persist_state="session",
        )
    first = report.layers[0]
    path = {
        "withheld": "attention goes nowhere else: out = h + MLP′(z), which has to reconstruct a + MLP(z_C)",
        "beside": "attention is added beside the MLP: out = h + a + MLP′(z), which has to reconstruct MLP(z_C)",
        "standard": "attention is as in the base model: out = h + a + MLP′(z_C)",
        "mlp_only": "attention enters the MLP’s input and is not added: out = h + MLP′(z_C), which has to reconstruct "
        "a + MLP(z_C)",
    }[str(first.semantics["attention"])]
    provenance = (
        report.provenance if len(report.provenance) < 60 else "known in different ways for different layers"
    )
    alike = len({str(each.semantics["attention"]) for each in report.layers}) == 1
    where = "every layer" if alike and len(report.layers) > 1 else f"layer {first.layer}"
    right.markdown(f"**{plain(report.semantics)}**, {plain(provenance)}. In {where} {path}.")


def stage_choice(report: LoadReport) -> None:
    """Buttons for the other checkpoints of the run; nothing where there is one."""
    if not report.others:
        return
    st.caption(f"{plain(report.name)} is open. The same run or folder also holds:")
    with st.container(horizontal=True):
        for path in report.others:
            st.button(Path(path).name, key=f"home_stage_{path}", on_click=open_checkpoint, args=[path])
