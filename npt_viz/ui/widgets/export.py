"""Downloads: the table behind a page, and Python lines that make it again."""

import json
from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.widgets.view import View

WHOLE_RUN = ("print(run.to_frame())",)
"""What the snippet ends with where a page shows the inspection itself."""


def downloads(
    view: View, frame: Callable[[], pd.DataFrame], *, key: str, then: Sequence[str] = WHOLE_RUN
) -> None:
    """Buttons for CSV and JSON, made when clicked, and the Python snippet.

    then: what the snippet does with `model`, `checkpoint` and `run`.
    """
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "CSV",
            data=lambda: frame().to_csv(index=False),
            file_name=f"npt_viz_{key}.csv",
            mime="text/csv",
            on_click="ignore",
            key=f"{key}_csv",
            icon=":material/download:",
        )
        st.download_button(
            "JSON",
            data=lambda: json.dumps(described(view, frame()), ensure_ascii=False, indent=1),
            file_name=f"npt_viz_{key}.json",
            mime="application/json",
            on_click="ignore",
            key=f"{key}_json",
            icon=":material/download:",
        )
        # Not an expander: what a closed one holds is drawn, and the highlighter of code is large.
        with st.popover("The same in Python", icon=":material/code:"):
            st.code(python(view.asked, then), language="python", wrap_lines=True)


def described(view: View, frame: pd.DataFrame) -> dict:
    """Table with model, checkpoint, prompt, mode and positions, for JSON."""
    run = view.run
    about = {"model": run.model, "checkpoint": run.checkpoint, "prompt": run.prompt}
    about |= {"mode": run.mode, "positions": run.positions}
    return about | {"rows": json.loads(str(frame.to_json(orient="records")))}


def python(asked: Asked, then: Sequence[str] = WHOLE_RUN) -> str:
    """Script that gives the same numbers; every value is a literal, so text cannot become code."""
    lines = [
        "import npt_viz",
        "",
        f"model = npt_viz.open_model({asked.selection.model!r})",
        *inspecting(asked, "checkpoint", "run"),
        *then,
    ]
    return "\n".join(lines)


def inspecting(asked: Asked, checkpoint: str, run: str, *, edits: str = "") -> list[str]:
    """Lines that open the checkpoint and inspect the prompt, under these names. edits: name of a ledger beneath."""
    selection, question = asked
    semantics = f", semantics={selection.semantics!r}" if selection.semantics else ""
    arguments = [
        f"    layers={list(question.layers)!r}," if question.layers else "",
        f"    mode={question.mode!r},",
        f"    positions={question.positions!r},",
        "    chat=True," if question.chat else "",
        f"    bos={question.bos!r}," if question.bos != "auto" else "",
        f"    edits={edits}," if edits else "",
    ]
    return [
        f"{checkpoint} = npt_viz.open_checkpoint({selection.checkpoint!r}, model{semantics})",
        f"{run} = npt_viz.inspect(",
        "    model,",
        f"    {checkpoint},",
        f"    {question.prompt!r},",
        *filter(None, arguments),
        ")",
    ]
