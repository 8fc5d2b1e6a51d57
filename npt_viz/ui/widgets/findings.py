"""Health findings: a quick look at load, the whole examination on demand; each with evidence, what to try, and where to see it."""

from pathlib import Path

import streamlit as st

from npt_viz.figures.theme import number
from npt_viz.results.health import Finding, HealthReport
from npt_viz.results.sentences import said
from npt_viz.results.sentences.health import health as health_in_words
from npt_viz.results.sentences.probe import probe as probe_in_words
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import AT_ONCE, computed, on_demand, seconds_per_token
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.shell.nav import page_file
from npt_viz.ui.shell.recording import record
from npt_viz.ui.shell.text import markdown, plain
from npt_viz.ui.widgets.tables import Cell, table
from npt_viz.workspace.numbers import packed_tables

MARKS = {
    "error": ":red[:material/error:]",
    "warning": ":orange[:material/warning:]",
    "info": ":blue[:material/info:]",
}

QUICK_BYTES = 2e9
"""Models up to this size are looked at without being asked; larger ones where the time allows it."""

FIRST_SHOWN = 2
"""Findings that stand on the first screen."""


def known(selection: Selection) -> tuple[HealthReport | None, bool]:
    """What is known of the checkpoint's health, and whether it is the whole examination; computes nothing."""
    whole = computed(_whole(selection))
    return (whole, True) if whole is not None else (computed(_quick(selection)), False)


def quick_look(selection: Selection) -> HealthReport | None:
    """The quick look, made at once where that is quick; None, with a button, where it is not."""
    from npt_viz.analysis.health import cost, health

    if (found := computed(_quick(selection))) is not None:
        return found
    model, checkpoint = opened.opened(selection)
    is_small = model.memory_bytes() <= QUICK_BYTES
    seconds = 0.0 if is_small else cost(model, checkpoint.layers, quick=True) * seconds_per_token(selection)
    return on_demand(
        _quick(selection),
        "Look at the checkpoint",
        seconds,
        lambda progress: health(model, checkpoint, quick=True, progress=_percent(progress)),
        key="home_quick",
    )


def best_known(selection: Selection) -> HealthReport | None:
    """The whole examination where it was made, else the quick look: see `quick_look`."""
    whole = computed(_whole(selection))
    return quick_look(selection) if whole is None else whole


def first_findings(report: HealthReport) -> None:
    """Draw what was read and the worst findings, with where to look next."""
    st.caption(markdown(health_in_words(report)))
    for i, finding in enumerate(report.findings[:FIRST_SHOWN]):
        _card(finding, key=f"home_finding_{i}")
    if len(report.findings) > FIRST_SHOWN:
        st.caption(f"{len(report.findings) - FIRST_SHOWN} more below, under Health.")


def findings(selection: Selection) -> None:
    """Draw the rest: the findings that are not on the first screen, what each layer fits, what was left out.

    The whole examination is made after a click.
    """
    quick, _ = known(selection)
    whole = _examined(selection)
    report = whole or quick
    if report is None:
        st.caption(
            "Rules on load, collapse, fit and predictions, on bundled text; each layer is also tried in every other way."
        )
        return
    for i, finding in enumerate(report.findings[FIRST_SHOWN:], FIRST_SHOWN):
        _card(finding, key=f"home_finding_{i}")
    for note in report.notes:
        st.caption(plain(note))
    _what_it_fits(report)


def _quick(selection: Selection) -> tuple[str, Selection]:
    return "quick health", selection


def _whole(selection: Selection) -> tuple[str, Selection]:
    return "health", selection


def _examined(selection: Selection) -> HealthReport | None:
    from npt_viz.analysis.health import cost, health

    if (found := computed(_whole(selection))) is not None:
        return found
    model, checkpoint = opened.opened(selection)
    # The quick look was at load: what is more is asked for.
    seconds = max(cost(model, checkpoint.layers) * seconds_per_token(selection), 1.01 * AT_ONCE)
    report = on_demand(
        _whole(selection),
        "Examine the checkpoint wholly",
        seconds,
        lambda progress: health(model, checkpoint, progress=_percent(progress)),
        key="home_health",
    )
    if report is not None:
        _record(selection, report)
        st.rerun()  # The first screen tells what is known.
    return None


def _record(selection: Selection, report: HealthReport) -> None:
    rows = [
        {"finding": each.title, "layer": each.layer, "severity": each.severity, "meaning": each.meaning}
        for each in report.findings
    ]
    record(
        "scan",
        "health",
        title=said(f"Health of {Path(selection.checkpoint).name}"),
        sentence=health_in_words(report),
        page="home",
        numbers=lambda with_text: packed_tables({"findings": rows}),
    )


def _percent(progress):
    def say(stage: str, fraction: float | None = None) -> None:
        progress(round(100 * (fraction or 0)), 100)

    return say


def _what_it_fits(report: HealthReport) -> None:
    """The counterfactual probe: each layer as it stands, and the best of every other way to use it."""
    if not report.probes:
        return
    wrong = any(found.verdict != "as it is" for found in report.probes.values())
    with st.expander("What each layer fits: tried in every other way", expanded=wrong):
        for found in report.probes.values():
            if found.verdict != "something else":  # Else a finding says it.
                st.markdown(markdown(probe_in_words(found)))
            rows: list[dict[str, Cell]] = [
                {
                    "used": each.name,
                    "recovers": each.figure,
                    "more than as it stands": "" if each is found.as_it_is else signed(each.gain.value),
                    "interval that decides": ""
                    if each is found.as_it_is
                    else f"{signed(each.gain.low)} to {signed(each.gain.high)}",
                }
                for each in (found.as_it_is, *found.best_of_each_kind)
            ]
            table(rows, label=f"ways to use layer {found.layer}")
        st.caption(
            "Shares are medians over tokens with 95 % intervals; the interval that decides is that of the differences "
            "token by token, at 99.9 %. Other layers are tried on the first window of the text."
        )


def signed(difference: float) -> str:
    """+0.45, −0.02"""
    return f"{difference:+.2f}".replace("-", "\N{MINUS SIGN}")


def _card(finding: Finding, *, key: str) -> None:
    where = "" if finding.layer is None else f" · layer {finding.layer}"
    evidence = " · ".join(
        f"{plain(name.replace('_', ' '))} {number(value)}" for name, value in finding.evidence.items()
    )
    with st.container(border=True, key=key):
        st.markdown(
            f"{MARKS[finding.severity]} **{plain(finding.title[0].upper() + finding.title[1:])}**{where}  \n"
            f"{plain(finding.meaning)}  \n:gray[:small[{evidence}]]  \n**Try:** {plain(finding.action)}"
        )
        # Some evidence stands on Home itself.
        if finding.page != "home" and page_file(finding.page).exists():
            st.page_link(
                f"pages/{finding.page}.py",
                label=f"See it on {finding.page.capitalize()}",
                icon=":material/arrow_forward:",
                query_params={} if finding.layer is None else {"layer": str(finding.layer)},
            )
