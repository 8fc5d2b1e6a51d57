"""Panels of an experiment, running or finished: answer, numbers, curves, tokens, health."""

from pathlib import Path

import streamlit as st

from npt_viz.figures.experiments import CURVES, aligned_curves, arm_strips, final_numbers
from npt_viz.figures.maps import window
from npt_viz.results.experiments import MEASURES, ExperimentResult
from npt_viz.results.sentences.experiments import experiment as sentence_of
from npt_viz.ui.experiments.job import ExperimentSlot
from npt_viz.ui.shell.guarded import guarded, problem
from npt_viz.ui.shell.lease import job_status
from npt_viz.ui.shell.text import markdown, plain
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.export import carry
from npt_viz.ui.widgets.findings import MARKS
from npt_viz.ui.widgets.inspecting import theme
from npt_viz.ui.widgets.sheet import say
from npt_viz.ui.widgets.tables import Cell, table

REFRESH = 2.0
"""Seconds between two drawings of a running experiment."""

CURVES_HEIGHT = 264
"""Pixels of the curves: what the first screen leaves."""

VERDICTS = {
    "better": "better",
    "worse": "worse",
    "unclear": "within chance",
    "the same": "identical",
    "one seed": "one seed: cannot tell",
    "no number": "–",
    "reference": "reference",
}


def results(slot: ExperimentSlot, folder: Path | None) -> None:
    """Draw what the folder holds; refreshes itself while an experiment runs."""
    active = slot.is_active
    st.fragment(_results, run_every=REFRESH if active else None)(slot, folder, active)


def _results(slot: ExperimentSlot, folder: Path | None, was_active: bool) -> None:
    now = slot.job.snapshot() if slot.job else None
    if was_active and now is not None and not now.is_active:
        # The whole page once more: the timer ends, Start is enabled.
        st.rerun()
    if now is not None and slot.job.folder == folder:
        job_status(now, parts="arms")
    if folder is None:
        st.info("Set up an experiment and press Start, or open a saved one.", icon=":material/info:")
        return
    if was_active and slot.job.folder == folder and not folder.exists():
        return  # It appears with the first step.
    with guarded():
        _draw(_read(folder))


def _read(folder: Path) -> ExperimentResult:
    from npt_viz.experiments.reading import read_experiment

    return read_experiment(folder)


def _draw(result: ExperimentResult) -> None:
    if result.unfair_seeds:
        problem(
            f"the arms of seed {result.unfair_seeds[0]} did not begin with the same weights and batches: not comparable"
        )
    measure = st.segmented_control(
        "Measure",
        list(MEASURES),
        default="recovered",
        key="experiment_measure",
        bind="query-params",
        format_func=lambda name: MEASURES[name].label,
        label_visibility="collapsed",
        required=True,
    )
    with st.container(key="answer"):
        say(markdown(sentence_of(result, measure)))
    with st.container(key="main_figure"):
        left, right = st.columns([6, 5], gap="medium")
        with left:
            if result.n_finished:
                chart(final_numbers(result, measure, theme=theme()), key="experiment_final")
            table(comparison_rows(result, measure), label="arms", help=_helps(result, measure))
        with right:
            _curves(result)
    st.caption(plain(result.setup))
    _strips(result)
    _health(result)
    _downloads(result)


def _helps(result: ExperimentResult, measure: str) -> dict[str, str]:
    """Column -> a sentence over its header."""
    fair = "Arms of a seed began with the same weights and saw the same batches." if result.is_fair else ""
    return {
        "mean": f"{MEASURES[measure].meaning}; {MEASURES[measure].better} is better.",
        "difference": f"To the reference, taken seed by seed. {fair}",
        "±": "Student's t over the seeds, widened so that all arms hold together at 95 %.",
    }


def comparison_rows(result: ExperimentResult, measure: str) -> list[dict[str, Cell]]:
    """One row an arm."""
    states = {arm: [run.state for run in result.of(arm)] for arm in result.arms}
    rows: list[dict[str, Cell]] = []
    for comparison in result.comparisons(measure):
        is_other = comparison.verdict != "reference"
        failed = set(states[comparison.arm]) == {"failed"}
        rows.append(
            {
                "arm": comparison.arm,
                "seeds": f"{states[comparison.arm].count('finished')} of {len(result.seeds)}",
                "mean": comparison.mean,
                "spread": comparison.spread,
                "difference": comparison.difference if is_other else None,
                "±": comparison.half_width if is_other else None,
                "verdict": "failed" if failed else VERDICTS[comparison.verdict],
            }
        )
    return rows


def _curves(result: ExperimentResult) -> None:
    if not result.layers:
        return
    left, right = st.columns([3, 1.4], vertical_alignment="bottom")
    column = left.selectbox(
        "Along the steps",
        list(CURVES),
        format_func=CURVES.__getitem__,
        key="experiment_column",
        label_visibility="collapsed",
        help="Lines are means over seeds, bands run from the lowest seed to the highest.",
    )
    layer = right.selectbox(
        "Layer",
        result.layers,
        key="experiment_layer",
        format_func=lambda layer: f"layer {layer}",
        label_visibility="collapsed",
    )
    figure = aligned_curves(result, column, layer=layer, height=CURVES_HEIGHT, theme=theme())
    if figure.data:
        chart(figure, key="experiment_curves")
    else:
        st.caption("Nothing of this was measured yet: choose another curve, or wait for the next evaluation.")


def _strips(result: ExperimentResult) -> None:
    strip = next((run.strip for run in result.runs if run.strip), None)
    if strip is None:
        return
    st.markdown("**The prompt under every arm**")
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    column = left.selectbox(
        "Colour by", list(strip.columns), key="experiment_strip", index=min(1, len(strip.columns) - 1)
    )
    seeds = sorted({run.seed for run in result.runs if run.strip})
    seed = right.selectbox("Seed", seeds, key="experiment_seed")
    shown = window(len(strip.tokens), 0)
    figure = arm_strips(result, column, seed=seed, shown=shown, theme=theme())
    if figure is None:
        st.caption("No arm with this seed has finished yet: choose another seed, or wait.")
        return
    chart(figure, key="experiment_strips")
    if len(strip.tokens) > len(shown):
        st.caption(f"Drawn: the first {len(shown)} of {len(strip.tokens):,} tokens.")


def _health(result: ExperimentResult) -> None:
    reporting = [run for run in result.runs if run.findings or run.error or run.alarms]
    with st.expander(f"Health of the arms ({len(reporting)} of {result.n_runs} runs have something to say)"):
        for run in reporting:
            st.markdown(f"**{plain(run.arm)}**, seed {run.seed}")
            if run.error:
                problem(run.error)
            for finding in run.findings:
                st.caption(f"{MARKS[finding.severity]} {plain(finding.title)}: {plain(finding.meaning)}")
            for alarm in run.alarms[-2:]:
                st.caption(f"{MARKS[alarm.severity]} step {alarm.step}: {plain(alarm.sentence)}")
        for note in result.notes:
            st.caption(plain(note))
        if not reporting:
            st.caption("No finding, no alarm.")


def _downloads(result: ExperimentResult) -> None:
    from npt_viz.experiments.folder import SPEC

    whole, report, spec, checkpoint = st.columns([1.3, 1.3, 1.3, 4], vertical_alignment="bottom")
    name = Path(result.folder).name
    with whole:
        carry(
            "experiment", result.to_frame, about={"experiment": name, "set-up": result.setup}, theme=theme()
        )
    report.download_button(
        "HTML report",
        data=lambda: _report(result),
        file_name=f"{name}.html",
        mime="text/html",
        key="experiment_html",
        on_click="ignore",
        width="stretch",
        icon=":material/download:",
    )
    spec.download_button(
        "experiment.toml",
        data=lambda: (Path(result.folder) / SPEC).read_text(encoding="utf-8"),
        file_name=SPEC,
        key="experiment_toml",
        help="`python -m npt_viz experiment experiment.toml` does the same without the app.",
        on_click="ignore",
        width="stretch",
        icon=":material/download:",
    )
    saved = [run for run in result.runs if run.checkpoint]
    with checkpoint.popover("Open an arm's checkpoint", disabled=not saved, icon=":material/open_in_new:"):
        for run in saved:
            st.button(
                f"{plain(run.arm)}, seed {run.seed}",
                key=f"experiment_open_{run.arm}_{run.seed}",
                on_click=_open,
                args=[run.checkpoint],
            )


def _report(result: ExperimentResult) -> str:
    from npt_viz.figures.report import report

    return report(result)


def _open(folder: str) -> None:
    st.session_state.update(checkpoint=folder, semantics="", on=[], layer=None)
    st.toast("Opened; the Inspect pages show it now.", icon=":material/check:")
