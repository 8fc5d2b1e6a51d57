"""Runs page: the answer, curves, notes, shares, table and downloads."""

import pandas as pd
import streamlit as st

from npt_viz.figures.runs import overlay, share_areas
from npt_viz.results.runs import HELDOUT, Run
from npt_viz.results.sentences.runs import runs as sentence_of
from npt_viz.runs import curves
from npt_viz.training.log import RUNS
from npt_viz.ui.runs.state import RunsView, has_grown, is_going_on
from npt_viz.ui.shell.guarded import guarded
from npt_viz.ui.shell.text import code, markdown, plain
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.export import carry
from npt_viz.ui.widgets.inspecting import theme
from npt_viz.ui.widgets.sheet import say
from npt_viz.ui.widgets.tables import Cell
from npt_viz.ui.widgets.tables import table as small_table

HEIGHT = 360
"""Pixels of the curves: what the first screen leaves."""

REFRESH = 3.0
"""Seconds between two looks for new lines."""

FEW = 30
"""Rows up to which the table needs no grid."""


def follow(view: RunsView) -> None:
    """Draw the page again when a training that is going on has written more; nothing where none is."""

    def look() -> None:
        if has_grown(view.runs):
            st.rerun()

    if is_going_on(view.runs):
        st.fragment(look, run_every=REFRESH)()


def answer(view: RunsView) -> None:
    """Which run ends best, in one sentence."""
    main = view.main
    summaries = [s for run, layer in view.series if main and (s := curves.summary(run, layer, main))]
    if main is None or not summaries:
        st.info(
            "None of these runs measured the columns that are chosen; choose others.", icon=":material/info:"
        )
        return
    with st.container(key="answer"):
        say(markdown(sentence_of(summaries, curves.better(main))))


def charts(view: RunsView) -> None:
    """Curves on training and on held-out text, apart because their scales differ."""
    shown = [(title, columns) for title, columns in _panels(view) if columns]
    with st.container(key="main_figure"):
        places = st.columns(max(1, len(shown)))
    for place, (title, columns) in zip(places, shown, strict=False):
        with place:
            st.markdown(f"**{title}**")
            _chart(view, columns, key="runs_chart_" + ("heldout" if columns == view.heldout else "training"))


def _panels(view: RunsView) -> list[tuple[str, list[str]]]:
    return [("On held-out text", view.heldout), ("In training", view.columns)]


def _chart(view: RunsView, columns: list[str], *, key: str) -> None:
    wanted = [(run, layer, column) for run, layer in view.series for column in columns]
    lines, missing = [], []
    for run, layer, column in wanted:
        smoothing = 0.0 if column.startswith(HELDOUT) else view.smoothing
        drawn = curves.line(run, layer, column, x=view.x, smoothing=smoothing)
        if drawn is not None:
            lines.append(drawn)
        elif column in run.layers[layer].columns:
            missing.append(curves.series_name(run, layer))
    if lines:
        marks = {curves.series_name(run, layer): run.marks for run, layer in view.series}
        figure = overlay(
            lines, series=view.names, x=view.x, log=view.log, marks=marks, height=HEIGHT, theme=theme()
        )
        chart(figure, key=key)
    thinned = [each for each in lines if len(each.x) < each.n_values]
    if thinned:
        longest = max(thinned, key=lambda each: each.n_values)
        st.caption(
            f"Drawn: {len(longest.x):,} of {longest.n_values:,} values of the longest curve, the smallest and the "
            "largest of every stretch; the table and the CSV have all."
        )
    if missing:
        names = ", ".join(map(code, dict.fromkeys(missing)))
        st.caption(f"Not along {view.x}: {names}, whose log does not say how many {view.x} a step took.")
    left_out = sum(int((each.y <= 0).sum()) for each in lines) if view.log else 0
    if left_out:
        st.caption(f"{left_out:,} values of 0 or below have no logarithm and are left out of the lines.")


def notes(view: RunsView) -> None:
    """Notes on the numbers; runs with the same note share a line."""
    about: dict[str, list[str]] = {}
    for run in view.runs:
        for note in run.notes:
            about.setdefault(note, []).append(code(run.name))
    if _weighted_differently(view.runs) and any(
        name.endswith("total") for name in view.columns + view.heldout
    ):
        names = [code(run.name) for run in view.runs]
        about["These runs weigh their losses differently, so their totals are different sums."] = names
    for note, names in about.items():
        whose = f"all {len(names)} runs" if len(names) == len(view.runs) > 2 else ", ".join(names)
        st.caption(f":material/info: {whose}: {plain(note)}")


def _weighted_differently(runs: list[Run]) -> bool:
    weightings = {
        frozenset(
            (name, values[1][-1])
            for name in each.columns
            if name.startswith("weight/") and len((values := each.measured(name))[1])
        )
        for run in runs
        for each in run.layers.values()
    } - {frozenset()}
    return len(weightings) > 1


def shares(view: RunsView) -> None:
    """Share of each loss in the weighted total, one figure a run."""
    share_curves = [(run, layer, s) for run, layer in view.series if (s := curves.shares(run, layer))]
    if not share_curves:
        return
    st.subheader("Share of the weighted total", help="By size, since a term may be negative; stacked to 1.")
    for row in range(0, len(share_curves), 2):
        for place, (run, layer, result) in zip(st.columns(2), share_curves[row : row + 2], strict=False):
            with place:
                st.markdown(code(result.series))
                key = f"runs_shares_{view.series.index((run, layer))}"
                chart(share_areas(result, marks=run.marks, theme=theme()), key=key)


def table(view: RunsView) -> None:
    """Table of first, last and best values."""
    st.subheader("Values")
    rows: list[dict[str, Cell]] = [
        {
            "run": s.series,
            "column": s.column,
            "first": s.first,
            "last": s.last,
            "at step": s.last_step,
            "best": s.best,
            "best at step": s.best_step,
            "values": s.n_values,
        }
        for column in [*view.heldout, *view.columns]
        for run, layer in view.series
        if (s := curves.summary(run, layer, column))
    ]
    if len(rows) <= FEW:
        small_table(rows, label="values of the runs")
        return
    numbers = {name: st.column_config.NumberColumn(format="%.5g") for name in ("first", "last", "best")}
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=numbers, key="runs_table")


def downloads(view: RunsView) -> None:
    """All rows, the figures, event files for TensorBoard, and the same in Python."""

    def script() -> str:
        lines = ["import npt_viz", ""]
        for run in view.runs:
            named = "" if run.part is None else f", {run.part!r}"
            lines.append(f"run = npt_viz.read_run({run.origin!r}{named})\nprint(run.to_frame())")
        return "\n".join(lines)

    line = st.container(horizontal=True)
    with line:
        carry(
            "runs",
            lambda: pd.concat([run.to_frame() for run in view.runs], ignore_index=True),
            about={"runs": ", ".join(run.origin for run in view.runs)},
            script=script,
            theme=theme(),
        )
    with line.popover("TensorBoard", icon=":material/monitoring:"):
        folder = st.text_input("Write event files to", str(RUNS / "tensorboard"), key="runs_board_folder")
        if st.button("Write", key="runs_board"):
            _write_events(view.runs, folder)


def _write_events(runs: list[Run], folder: str) -> None:
    from npt_viz.runs.tensorboard import write_events

    with guarded():
        write_events(runs, folder)
        st.success("Written. Look at it with:")
        st.code(f"tensorboard --logdir {folder}", language="bash")
