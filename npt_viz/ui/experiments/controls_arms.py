"""Table of the arms of an experiment, filled from a preset, from the Training page, or by typing."""

import math
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.files import plain_json
from npt_viz.ui.shell import keeping

if TYPE_CHECKING:
    from npt_viz.experiments.plan import Arm

MOST = 8
"""Arms that one can still tell apart on a page; a spec file may have more."""

COLUMNS = ("name", "losses", "adaptive", "stages", "curriculum", "gradient ×", "learning rate")

keeping.keep(
    "experiment_rows",
    write=lambda table: plain_json(table.to_dict("records")),
    read=lambda rows: pd.DataFrame([dict(row) for row in rows], columns=COLUMNS),
)

LOSSES_HELP = "Losses and their weights, for example direct=1,kl=0.5. A name may end in :as_written for the published form."


def arm_controls() -> None:
    """Draw the Arms tab."""
    from npt_viz.experiments.plan import ARM_PRESETS

    session = st.session_state
    if "experiment_rows" not in session:
        rows = keeping.kept("experiment_rows")
        session["experiment_rows"] = _first_rows() if rows is None else rows
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    left.selectbox(
        "Take the arms of a preset",
        list(ARM_PRESETS),
        index=None,
        key="experiment_preset",
        placeholder="Choose one",
        on_change=_use_preset,
        help=f"The page takes up to {MOST}; `python -m npt_viz experiment` takes any number.",
    )
    right.button(
        "Add the losses of the Training page",
        on_click=_add_from_training,
        key="experiment_add",
        icon=":material/add:",
        width="stretch",
        disabled="training_on_direct" not in session,
    )
    key = f"experiment_table_{session.setdefault('experiment_version', 0)}"
    if key not in session:
        # Begun anew, or the page was left: what was typed then is what the table begins with.
        session["experiment_base"] = session["experiment_rows"].copy()
    session["experiment_rows"] = st.data_editor(
        session["experiment_base"],
        num_rows="dynamic",
        hide_index=True,
        key=key,
        column_config={
            "name": st.column_config.TextColumn("Arm", required=True, width="medium"),
            "losses": st.column_config.TextColumn("Losses", required=True, width="large", help=LOSSES_HELP),
            "adaptive": st.column_config.SelectboxColumn(
                "Adaptive", options=["off", "gradient_norms", "as_written"], default="off"
            ),
            "stages": st.column_config.NumberColumn(
                "Stages, S", min_value=1, step=1, help="Empty: no stages."
            ),
            "curriculum": st.column_config.CheckboxColumn("Curriculum", default=False),
            "gradient ×": st.column_config.NumberColumn("Gradient ×", min_value=1e-6, default=1.0),
            "learning rate": st.column_config.NumberColumn(
                "Learning rate", min_value=0.0, format="%g", help="Empty: that of the Schedule tab."
            ),
        },
    )
    if left_out := session.get("experiment_left_out"):
        st.caption(
            f"Not taken, because a page shows up to {MOST} arms: {', '.join(left_out)}. Type a name's losses to add it."
        )


def chosen_arms() -> tuple["Arm", ...]:
    """Arms that the table sets; raises NptVizError for a row that cannot be."""
    rows = st.session_state["experiment_rows"]
    arms = tuple(_arm(row) for row in rows.to_dict("records") if row.get("name") or row.get("losses"))
    if len(arms) > MOST:
        raise NptVizError(
            f"{len(arms)} arms are more than a page can show; leave at most {MOST}, or use a spec file"
        )
    return arms


def rows_of(arms) -> pd.DataFrame:
    """The table that `chosen_arms` reads as these arms."""
    from npt_viz.training.losses import losses_text

    return pd.DataFrame(
        [
            {
                "name": arm.name,
                "losses": losses_text(arm.losses),
                "adaptive": arm.losses.adaptive,
                "stages": arm.losses.stage_steps or math.nan,
                "curriculum": arm.losses.curriculum is not None,
                "gradient ×": arm.losses.gradient_scale,
                "learning rate": arm.changes.get("learning_rate", math.nan),
            }
            for arm in arms
        ],
        columns=COLUMNS,
    )


def _arm(row: dict) -> "Arm":
    from npt_viz.experiments.plan import Arm
    from npt_viz.training.losses import Curriculum, objective

    name, losses = (str(row.get(key) or "").strip() for key in ("name", "losses"))
    if not name or not losses:
        raise NptVizError(f"arm {name or losses!r} needs a name and losses, for example direct=1")
    try:
        minimised = objective(
            losses,
            adaptive=row.get("adaptive") or "off",
            stage_steps=None if _empty(row.get("stages")) else int(row["stages"]),
            curriculum=Curriculum() if row.get("curriculum") is True else None,
            gradient_scale=1.0 if _empty(row.get("gradient ×")) else float(row["gradient ×"]),
        )
    except NptVizError as error:
        raise NptVizError(f"arm {name!r}: {error}") from None
    return Arm(
        name=name,
        losses=minimised,
        changes={} if _empty(row.get("learning rate")) else {"learning_rate": float(row["learning rate"])},
    )


def _empty(value) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _first_rows() -> pd.DataFrame:
    from npt_viz.experiments.plan import Arm
    from npt_viz.training.losses.presets import PRESETS

    names = ("direct alone", "direct, robust to sinks")
    return rows_of([Arm(name=name, losses=PRESETS[name]) for name in names])


def _use_preset() -> None:
    from npt_viz.experiments.plan import arms_of

    session = st.session_state
    if session["experiment_preset"]:
        arms = arms_of(session["experiment_preset"])
        _replace(rows_of(arms[:MOST]), [arm.name for arm in arms[MOST:]])
        session["experiment_preset"] = None


def _add_from_training() -> None:
    from npt_viz.experiments.plan import Arm
    from npt_viz.ui.train.controls_adapter import FRESH, fresh_form
    from npt_viz.ui.train.controls_losses import chosen_objective

    rows = st.session_state["experiment_rows"]
    try:
        losses = chosen_objective(
            [fresh_form()] if st.session_state.get("training_from", FRESH) == FRESH else []
        )
    except NptVizError as error:
        st.toast(str(error), icon=":material/error:")
        return
    added = rows_of([Arm(name=" + ".join(losses.active)[:40], losses=losses)])
    _replace(pd.concat([rows, added], ignore_index=True), [])


def _replace(rows: pd.DataFrame, left_out: list[str]) -> None:
    session = st.session_state
    session["experiment_rows"], session["experiment_left_out"] = rows, left_out
    # A new key: the editor's own memory belongs to the old rows.
    session["experiment_version"] = session.get("experiment_version", 0) + 1
