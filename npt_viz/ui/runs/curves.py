"""The Runs page in pieces: what is drawn of which runs, the answer, the panels, the table, what is taken away."""

import math
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from npt_viz.figures.runs import AXES, overlay, share_areas
from npt_viz.figures.theme import number
from npt_viz.results.runs import HELDOUT, Axis, Run
from npt_viz.runs import curves
from npt_viz.training.log import RUNS
from npt_viz.ui.runs.files import chosen
from npt_viz.ui.shell.guarded import guarded
from npt_viz.ui.shell.text import code, plain
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.head import theme

__all__ = ["answer", "chart", "charts", "chosen", "notes", "shares", "table", "take_away", "view_of"]

NOT_DRAWN = {"n_tokens", "seconds", "tokens"}
FIRST_CHOICE = ("total", "loss/direct")
FIRST_HELDOUT = ("heldout/recovered", "heldout/direct", "heldout/total")
ALL_LAYERS = "all"
MOST_SERIES = 12


@dataclass(frozen=True)
class RunsView:
    """What the page draws."""

    runs: list[Run]
    series: list[tuple[Run, int | None]]
    """A run and a layer: one colour each."""
    columns: list[str]
    heldout: list[str]
    x: Axis
    smoothing: float
    log: bool

    @property
    def names(self) -> list[str]:
        return [curves.series_name(run, layer) for run, layer in self.series]

    @property
    def main(self) -> str | None:
        """The column that the answer is about."""
        return next(iter([*self.heldout, *self.columns]), None)


def view_of(runs: list[Run]) -> RunsView:
    """Draw the controls."""
    columns = list(dict.fromkeys(name for run in runs for name in run.columns if name not in NOT_DRAWN))
    heldout = [name for name in columns if name.startswith(HELDOUT)]
    columns = [name for name in columns if name not in heldout]
    series = [(run, layer) for run in runs for layer in run.layers]
    left, right = st.columns(2)
    with left:
        shown = _columns("In training", columns, FIRST_CHOICE, key="runs_columns")
    with right:
        shown_heldout = _columns("On held-out text", heldout, FIRST_HELDOUT, key="runs_heldout")
    place = st.columns([2.6, 2.4, 1.2, 2], vertical_alignment="bottom")
    x = place[0].segmented_control(
        "Along",
        list(AXES),
        key="runs_x",
        default="step",
        required=True,
        bind="query-params",
        persist_state="session",
    )
    smoothing = place[1].slider(
        "Smoothing",
        0.0,
        0.99,
        0.0,
        0.01,
        key="runs_smoothing",
        bind="query-params",
        persist_state="session",
        help="β of an exponential moving average, m ← β m + (1 − β) y; the raw values stay behind it, faint. "
        "Held-out values are few and are drawn as they are.",
    )
    log = place[2].toggle("Log y", key="runs_log", bind="query-params", persist_state="session")
    with place[3]:
        series = _layers(series, shown + shown_heldout)
    return RunsView(runs, series, shown, shown_heldout, x, smoothing, log)


def answer(view: RunsView) -> None:
    """Who ends best, in one sentence."""
    found = [s for run, layer in view.series if view.main and (s := curves.summary(run, layer, view.main))]
    if not found:
        st.info(
            "None of these runs measured the columns that are chosen; choose others.", icon=":material/info:"
        )
        return
    direction = curves.better(view.main)
    if len(found) == 1 or direction is None:
        first = found[0]
        best = "" if math.isnan(first.best) else f", best {number(first.best)} at step {first.best_step:,}"
        st.markdown(
            f"{code(first.series)}: {code(first.column)} went from {number(first.first)} to "
            f"**{number(first.last)}** at step {first.last_step:,}{best}."
        )
        return
    ranked = sorted(found, key=lambda s: s.last, reverse=direction == "high")
    best, worst = ranked[0], ranked[-1]
    st.markdown(
        f"Of {len(found)} curves {code(best.series)} ends best in {code(best.column)}: **{number(best.last)}** at step "
        f"{best.last_step:,}; {code(worst.series)} ends worst, {number(worst.last)} at step {worst.last_step:,}."
    )


def charts(view: RunsView) -> None:
    """Training and held-out text apart: their scales differ."""
    shown = [(title, found) for title, found in _panels(view) if found]
    for place, (title, columns) in zip(st.columns(max(1, len(shown))), shown, strict=False):
        with place:
            st.markdown(f"**{title}**")
            _chart(view, columns, key="runs_chart_" + ("heldout" if columns == view.heldout else "training"))


def notes(view: RunsView) -> None:
    """What a reader must know about the numbers; runs of which the same holds share a line."""
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
        st.caption(f":material/info: {', '.join(names)}: {plain(note)}")


def shares(view: RunsView) -> None:
    """What each loss weighs in the total, a panel a run."""
    found = [(run, layer, s) for run, layer in view.series if (s := curves.shares(run, layer))]
    if not found:
        return
    st.subheader("Share of the weighted total", help="By size, since a term may be negative; stacked to 1.")
    for row in range(0, len(found), 2):
        for place, (run, layer, result) in zip(st.columns(2), found[row : row + 2], strict=False):
            with place:
                st.markdown(code(result.series))
                key = f"runs_shares_{view.series.index((run, layer))}"
                chart(share_areas(result, marks=run.marks, theme=theme()), key=key)


def table(view: RunsView) -> None:
    """First, last and best values."""
    st.subheader("Values")
    rows = [
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
    numbers = {name: st.column_config.NumberColumn(format="%.5g") for name in ("first", "last", "best")}
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=numbers, key="runs_table")


def take_away(view: RunsView) -> None:
    """All rows as CSV, event files for TensorBoard, and the command that says the same."""
    csv, board, snippet = st.columns([1, 1.8, 5], vertical_alignment="top")
    csv.download_button(
        "CSV",
        data=lambda: pd.concat([run.to_frame() for run in view.runs], ignore_index=True).to_csv(index=False),
        file_name="npt_viz_runs.csv",
        mime="text/csv",
        on_click="ignore",
        key="runs_csv",
        icon=":material/download:",
        width="stretch",
    )
    with board.popover("TensorBoard", icon=":material/monitoring:", width="stretch"):
        folder = st.text_input("Write event files to", str(RUNS / "tensorboard"), key="runs_board_folder")
        if st.button("Write", key="runs_board"):
            _write_events(view.runs, folder)
    with snippet.expander("The same in Python"):
        lines = ["import npt_viz", ""]
        lines += [f"run = npt_viz.read_run({run.origin!r})\nprint(run.to_frame())" for run in view.runs]
        st.code("\n".join(lines), language="python", wrap_lines=True)


def _columns(label: str, options: list[str], first: tuple[str, ...], *, key: str) -> list[str]:
    if not options:
        st.caption(f"{label}: nothing was logged.")
        return []
    default = [name for name in first if name in options][:1] or options[:1]
    kept = [name for name in st.session_state.get(key, []) if name in options]
    if key in st.session_state and kept != st.session_state[key]:
        st.session_state[key] = kept or default
    return st.multiselect(
        label,
        options,
        default=None if key in st.session_state else default,
        key=key,
        bind="query-params",
        persist_state="session",
    )


def _layers(series: list[tuple[Run, int | None]], columns: list[str]) -> list[tuple[Run, int | None]]:
    """Those of the chosen layer, where a run has several."""
    layers = list(dict.fromkeys(layer for _, layer in series))
    if all(len(run.layers) == 1 for run, _ in series):
        return series[:MOST_SERIES]
    options = [ALL_LAYERS, *(str(layer) for layer in layers if layer is not None)]
    if st.session_state.get("runs_layer") not in options:
        st.session_state["runs_layer"] = ALL_LAYERS
    wanted = st.selectbox("Layer", options, key="runs_layer", bind="query-params", persist_state="session")
    found = [
        (run, layer)
        for run, layer in series
        if wanted in (ALL_LAYERS, str(layer)) and any(name in run.layers[layer].columns for name in columns)
    ]
    if len(found) > MOST_SERIES:
        st.caption(f"Drawn: the first {MOST_SERIES} of {len(found)} curves; choose a layer.")
    return found[:MOST_SERIES]


def _panels(view: RunsView) -> list[tuple[str, list[str]]]:
    return [("On held-out text", view.heldout), ("In training", view.columns)]


def _chart(view: RunsView, columns: list[str], *, key: str) -> None:
    wanted = [(run, layer, column) for run, layer in view.series for column in columns]
    lines, missing = [], []
    for run, layer, column in wanted:
        smoothing = 0.0 if column.startswith(HELDOUT) else view.smoothing
        found = curves.line(run, layer, column, x=view.x, smoothing=smoothing)
        if found is not None:
            lines.append(found)
        elif column in run.layers[layer].columns:
            missing.append(curves.series_name(run, layer))
    if lines:
        marks = {curves.series_name(run, layer): run.marks for run, layer in view.series}
        figure = overlay(lines, series=view.names, x=view.x, log=view.log, marks=marks, theme=theme())
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


def _weighted_differently(runs: list[Run]) -> bool:
    found = {
        frozenset(
            (name, values[1][-1])
            for name in each.columns
            if name.startswith("weight/") and len((values := each.measured(name))[1])
        )
        for run in runs
        for each in run.layers.values()
    } - {frozenset()}
    return len(found) > 1


def _write_events(runs: list[Run], folder: str) -> None:
    from npt_viz.runs.tensorboard import write_events

    with guarded():
        write_events(runs, folder)
        st.success("Written. Look at it with:")
        st.code(f"tensorboard --logdir {folder}", language="bash")
