"""Health findings: each with its evidence, what to try, and a link to the page that shows it."""

import streamlit as st

from npt_viz.figures.theme import number
from npt_viz.results.health import Finding, HealthReport
from npt_viz.results.sentences.health import health as health_in_words
from npt_viz.results.sentences.probe import probe as probe_in_words
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import on_demand, seconds_per_token
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.shell.nav import page_file
from npt_viz.ui.shell.text import markdown, plain

MARKS = {
    "error": ":red[:material/error:]",
    "warning": ":orange[:material/warning:]",
    "info": ":blue[:material/info:]",
}


def findings(selection: Selection) -> None:
    """Findings of the checkpoint, one card each; examined at once where that is quick, else after a click."""
    report = _report(selection)
    if report is None:
        st.caption(
            "Rules on load, collapse, fit and predictions, on bundled text; each layer is also tried in every other way."
        )
        return
    st.markdown(markdown(health_in_words(report)))
    for i, finding in enumerate(report.findings):
        _card(finding, key=f"home_finding_{i}")
    for note in report.notes:
        st.caption(plain(note))
    _what_it_fits(report)


def _report(selection: Selection) -> HealthReport | None:
    from npt_viz.analysis.health import cost, health

    model, checkpoint = opened.opened(selection)

    def compute(progress) -> HealthReport:
        def say(stage: str, fraction: float | None = None) -> None:
            progress(round(100 * (fraction or 0)), 100)

        return health(model, checkpoint, progress=say)

    seconds = cost(model, checkpoint.layers) * seconds_per_token(selection)
    return on_demand(("health", selection), "Examine the checkpoint", seconds, compute, key="home_health")


def _what_it_fits(report: HealthReport) -> None:
    """The counterfactual probe: each layer as it stands, and the best of every other way to use it."""
    if not report.probes:
        return
    wrong = any(found.verdict != "as it is" for found in report.probes.values())
    with st.expander("What each layer fits: tried in every other way", expanded=wrong):
        for found in report.probes.values():
            if found.verdict != "something else":  # Else a finding says it.
                st.markdown(markdown(probe_in_words(found)))
            rows = [
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
            st.markdown(_markdown_table(rows))
        st.caption(
            "Shares are medians over tokens with 95 % intervals; the interval that decides is that of the differences "
            "token by token, at 99.9 %. Other layers are tried on the first window of the text."
        )


def signed(difference: float) -> str:
    """+0.45, −0.02"""
    return f"{difference:+.2f}".replace("-", "\N{MINUS SIGN}")


def _markdown_table(rows: list[dict[str, str]]) -> str:
    """A small table of text that comes from npt_viz alone."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([plain(cell) for cell in row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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
