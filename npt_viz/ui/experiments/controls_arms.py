"""Matrix of the arms of an experiment and their losses, filled from a preset, from the Training page, or by toggles."""

import math
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.files import plain_json
from npt_viz.ui.shell import keeping

if TYPE_CHECKING:
    from npt_viz.experiments.plan import Arm
    from npt_viz.training.losses import Term

MOST = 8
"""Arms that one can still tell apart on a page; a spec file may have more."""

SHEETS = ("Losses", "Weights", "Weighting")
"""What the table shows of the arms: which losses are on, how they weigh, and how that changes along the steps."""

WEIGHTING = ("adaptive", "stages", "curriculum", "gradient ×", "learning rate")

AS_WRITTEN = "as written"
"""Column of the losses that take their published form."""


def terms() -> "dict[str, Term]":
    """Losses that can be switched on."""
    # Here, so that a page paints before torch is loaded.
    from npt_viz.training.losses import TERMS

    return TERMS


def weight_column(loss: str) -> str:
    """Name of the column that holds the weight of a loss."""
    return f"weight of {loss}"


def columns() -> list[str]:
    """All columns of the table: the arm's name, a toggle and a weight for each loss, and its weighting."""
    return ["name", *terms(), *map(weight_column, terms()), AS_WRITTEN, *WEIGHTING]


def _read(rows) -> pd.DataFrame:
    if any(set(columns()) - set(row) for row in rows):
        raise ValueError("rows of another version")
    return pd.DataFrame([dict(row) for row in rows], columns=columns())


keeping.keep(
    "experiment_rows",
    write=lambda table: plain_json(table.to_dict("records")),
    read=_read,
)


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
    sheet = st.segmented_control(
        "Table",
        SHEETS,
        default=SHEETS[0],
        key="experiment_sheet",
        required=True,
        label_visibility="collapsed",
        persist_state="session",
    )
    key = f"experiment_table_{session.setdefault('experiment_version', 0)}_{sheet}"
    if key not in session or session.get("_experiment_sheet") != sheet:
        # Begun anew, or another sheet or page was left: what was set then is what the table begins with.
        session["experiment_base"], session["_experiment_sheet"] = session["experiment_rows"].copy(), sheet
    session["experiment_rows"] = st.data_editor(
        session["experiment_base"],
        num_rows="dynamic",
        hide_index=True,
        key=key,
        column_order=_shown(sheet or SHEETS[0], session["experiment_base"]),
        column_config=_column_config(),
    )
    if left_out := session.get("experiment_left_out"):
        st.caption(
            f"Not taken, because a page shows up to {MOST} arms: {', '.join(left_out)}. A row below the last adds one."
        )


def _shown(sheet: str, rows: pd.DataFrame) -> list[str]:
    if sheet == "Weights":
        on = [loss for loss in terms() if any(_on(each) for each in rows[loss])]
        return ["name", *map(weight_column, on), AS_WRITTEN]
    return ["name", *(WEIGHTING if sheet == "Weighting" else terms())]


def _column_config() -> dict:
    column = st.column_config
    two_forms = [loss for loss, term in terms().items() if len(term.forms) > 1]
    config = {
        "name": column.TextColumn("Arm", required=True, width=190, pinned=True),
        AS_WRITTEN: column.MultiselectColumn(
            "As written", options=two_forms, help="Losses that take their published form."
        ),
        "adaptive": column.SelectboxColumn(
            "Adaptive", options=["off", "gradient_norms", "as_written"], default="off"
        ),
        "stages": column.NumberColumn("Stages, S", min_value=1, step=1, help="Empty: no stages."),
        "curriculum": column.CheckboxColumn("Curriculum", default=False),
        "gradient ×": column.NumberColumn("Gradient ×", min_value=1e-6, default=1.0),
        "learning rate": column.NumberColumn(
            "Learning rate", min_value=0.0, format="%g", help="Empty: that of the Schedule tab."
        ),
    }
    for loss, term in terms().items():
        label = loss.replace("_", " ")
        config[loss] = column.CheckboxColumn(
            label, default=False, width=8 * len(label) + 40, help=f"{term.formula}. {term.sentence}"
        )
        config[weight_column(loss)] = column.NumberColumn(
            label, min_value=0.0, default=term.weight, format="%g", help="Its weight where it is on."
        )
    return config


def chosen_arms() -> tuple["Arm", ...]:
    """Arms that the table sets; raises NptVizError for a row that cannot be."""
    rows = st.session_state["experiment_rows"].to_dict("records")
    arms = tuple(_arm(row) for row in rows if row.get("name") or any(_on(row.get(loss)) for loss in terms()))
    if len(arms) > MOST:
        raise NptVizError(
            f"{len(arms)} arms are more than a page can show; leave at most {MOST}, or use a spec file"
        )
    return arms


def rows_of(arms) -> pd.DataFrame:
    """The table that `chosen_arms` reads as these arms."""
    return pd.DataFrame(
        [
            {
                "name": arm.name,
                **{loss: loss in arm.losses.active for loss in terms()},
                **{
                    weight_column(loss): float(arm.losses.active.get(loss, term.weight))
                    for loss, term in terms().items()
                },
                AS_WRITTEN: sorted(arm.losses.as_written & set(arm.losses.active)),
                "adaptive": arm.losses.adaptive,
                "stages": arm.losses.stage_steps or math.nan,
                "curriculum": arm.losses.curriculum is not None,
                "gradient ×": arm.losses.gradient_scale,
                "learning rate": arm.changes.get("learning_rate", math.nan),
            }
            for arm in arms
        ],
        columns=columns(),
    )


def _arm(row: dict) -> "Arm":
    from npt_viz.experiments.plan import Arm
    from npt_viz.training.losses import Curriculum, Objective

    name = str(row.get("name") or "").strip()
    on = [loss for loss in terms() if _on(row.get(loss))]
    if not name:
        raise NptVizError(f"the arm with {', '.join(on)} has no name; give it one in its first column")
    if not on:
        raise NptVizError(f"arm {name!r} has no loss; switch at least one on in its row")
    weights: dict = {loss: row.get(weight_column(loss)) for loss in on}
    written = row.get(AS_WRITTEN)
    try:
        minimised = Objective(
            weights={loss: terms()[loss].weight if _empty(w) else float(w) for loss, w in weights.items()},
            as_written=frozenset(written if isinstance(written, list | tuple) else ()) & set(on),
            adaptive=row.get("adaptive") or "off",
            stage_steps=None if _empty(row.get("stages")) else int(row["stages"]),
            curriculum=Curriculum() if _on(row.get("curriculum")) else None,
            gradient_scale=1.0 if _empty(row.get("gradient ×")) else float(row["gradient ×"]),
        )
    except NptVizError as error:
        raise NptVizError(f"arm {name!r}: {error}") from None
    return Arm(
        name=name,
        losses=minimised,
        changes={} if _empty(row.get("learning rate")) else {"learning_rate": float(row["learning rate"])},
    )


def _on(value) -> bool:
    """Whether a toggle is on; that of a row which was just added holds nothing."""
    return not _empty(value) and bool(value)


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
