"""Home page: facts to trust, what to do next, the load report and the parity checks."""

import html
from collections.abc import Iterator
from typing import Literal, NamedTuple

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.theme import number
from npt_viz.results.health import HealthReport
from npt_viz.results.load_report import LoadReport
from npt_viz.results.sentences.trust import load as load_in_words
from npt_viz.results.sentences.trust import parity as parity_in_words
from npt_viz.results.words import counted
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.memory import size
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.home.state import ask_for_parity, parity_checks
from npt_viz.ui.shell.text import code, markdown, plain
from npt_viz.ui.widgets.findings import first_findings, known
from npt_viz.ui.widgets.tables import Cell, table

SHOWN_WARNINGS = 4


def stated_fault(report: LoadReport) -> None:
    """What the file itself says is wrong with it; draws nothing where it says nothing."""
    if report.stated_fault:
        st.html(
            f'<div class="npt-fault" role="note"><b>The file states its own fault:</b> {html.escape(report.stated_fault)}</div>'
        )


class Tile(NamedTuple):
    """One fact about what is open: in a word, with a detail under it and the whole of it over it."""

    label: str
    value: str
    detail: str
    whole: str
    state: Literal["good", "bad", "doubtful", ""] = ""


class Trust:
    """The row of facts: drawn at once, those that have to be computed are filled in later."""

    def __init__(self, selection: Selection, report: LoadReport) -> None:
        self._selection, self._report = selection, report
        self._parity = _WAITS
        self._place = st.empty()
        kept = st.session_state.get("_trust")
        # What was known at the last run stays until this one knows it anew: nothing blinks.
        self._place.html(kept[1] if kept and kept[0] == selection else self._html())

    def fill(self, parity: Tile | None = None) -> None:
        """Draw the row anew: with the health that is known by now, and the parity."""
        self._parity = parity or self._parity
        drawn = self._html()
        self._place.html(drawn)
        if parity is not None:
            st.session_state["_trust"] = (self._selection, drawn)

    def _html(self) -> str:
        facts = opened.model_facts(self._selection)
        tiles = [
            health_tile(self._report, *known(self._selection)),
            *_of_file(self._report),
            self._parity,
            Tile(
                "Base model",
                facts["name"],
                facts["runs"],
                f"{facts['size']}, {facts['runs']}; {facts['source']}. {facts['notes']}",
            ),
        ]
        return f'<div class="npt-trust">{"".join(map(_tile, tiles))}</div>'


_WAITS = Tile("Parity", "…", "not checked yet", "Measured differences that have to be rounding.")


def _tile(tile: Tile) -> str:
    label, value, detail, whole = (html.escape(text) for text in tile[:4])
    return f'<div class="{tile.state}" title="{whole}"><span>{label}</span><b>{value}</b><small>{detail}</small></div>'


def health_tile(report: LoadReport, found: HealthReport | None, is_whole: bool) -> Tile:
    """Health in a word. It is good only where every layer was looked at and nothing is known against the file."""
    if found is None:
        value = "fault stated" if report.stated_fault else "…"
        return Tile(
            "Health", value, "not looked at yet", report.stated_fault, "bad" if report.stated_fault else ""
        )
    how = "whole examination" if is_whole else "quick look"
    worst = next(iter(found.findings), None)
    counts = [
        counted(len(found.of(severity)), severity) for severity in ("error", "warning") if found.of(severity)
    ]
    if counts and worst is not None:
        return Tile(
            "Health",
            worst.title,
            f"{' and '.join(counts)}, {how}",
            worst.meaning,
            "bad" if worst.severity == "error" else "doubtful",
        )
    left = len(report.layers) - len(found.layers)
    layers = counted(len(found.layers), "layer")
    detail = (
        f"{how} at {layers}" if not left else f"{how} at {len(found.layers)} of {len(report.layers)} layers"
    )
    whole = " ".join(f"{note}." for note in found.notes)
    if report.stated_fault:
        return Tile("Health", "fault stated", detail, report.stated_fault, "bad")
    return Tile("Health", "nothing found", detail, whole, "" if left else "good")


def _of_file(report: LoadReport) -> Iterator[Tile]:
    layers = ", ".join(str(each.layer) for each in report.layers)
    n = len(report.layers)
    yield Tile(
        "NPT checkpoint",
        report.semantics if len(report.semantics) < 12 else "mixed",
        (f"layer{'s' * (n > 1)} {layers}" if n < 6 else f"{n} layers") + f", {report.format}",
        f"{report.name}: {load_in_words(report)}",
    )
    left_over = len(report.unused)
    beside = f", {report.base_tensors} of the base" if report.base_tensors else ""
    yield Tile(
        "Tensors used",
        f"{report.tensors_used} of {report.tensors_total}",
        f"{left_over} left over{beside}",
        "Tensors of the file that a layer uses; what is left over does not run.",
        "good" if left_over == 0 and report.tensors_used == report.tensors_total else "bad",
    )
    match = report.base_match
    value, state = _MATCHES[match.status]
    yield Tile("Made for this base", value, match.detail, match.sentence, state)


_MATCHES: dict[str, tuple[str, Literal["good", "bad", ""]]] = {
    "match": ("yes", "good"),
    "mismatch": ("no", "bad"),
    "unknown": ("not known", ""),
}


def parity_tile(selection: Selection) -> Tile:
    """Whether the checks hold; makes them where that is cheap."""
    try:
        parity = parity_checks(selection)
    except NptVizError as error:
        return Tile("Parity", "cannot run", "it cannot be checked", str(error), "bad")
    if parity is None:
        return Tile("Parity", "not checked", "button below", "A large model: the check runs it a few times.")
    return Tile(
        "Parity",
        "holds" if parity.passed else "broken",
        f"{len(parity.checks)} checks"
        if parity.passed
        else f"{len(parity.failed)} of {len(parity.checks)} fail",
        str(parity_in_words(parity)),
        "good" if parity.passed else "bad",
    )


def what_next(report: HealthReport | None) -> None:
    """Draw health in a line, the worst findings with the pages that show them, and where there is no error what to look at."""
    if report is not None:
        with st.container(key="first_findings"):
            first_findings(report)
    if report is not None and report.of("error"):
        return
    with st.container(horizontal=True, key="what_next"):
        for page, label in _NEXT.items():
            st.page_link(f"pages/{page}.py", label=label, icon=":material/arrow_forward:", width="content")


_NEXT = {
    "tokens": "Where it moves the prediction",
    "reconstruction": "How much it recovers, and what limits it",
    "directions": "Whether its updates differ from token to token",
    "training": "Train a better one",
}
"""Page -> what it answers of a checkpoint in which nothing was found."""


def load_table(report: LoadReport) -> None:
    """Table of layers: what the file holds of each."""
    rows: list[dict[str, Cell]] = [
        {
            "layer": each.layer,
            "variant": each.variant,
            "semantics": each.provenance,
            "targets": " + ".join(each.targets),
            "rank r": _by_target(each.ranks),
            "components k": _by_target(each.components_of),
            "dtype": each.dtype,
            "size": size(each.bytes),
            "NaN": each.n_nan,
            "Inf": each.n_inf,
            "zero tensors": ", ".join(each.zero_tensors) or "none",
            "at initialisation": ", ".join(each.at_initialisation) or "none",
        }
        for each in report.layers
    ]
    if len(rows) <= 30:
        table(rows, label="layers of the file")
    else:
        st.dataframe(pd.DataFrame(rows), hide_index=True, height=460)


def _by_target(numbers) -> str:
    by_target = dict(numbers)
    if len(set(by_target.values())) == 1:
        return str(next(iter(by_target.values())))
    return ", ".join(f"{target} {n}" for target, n in by_target.items())


def load_details(report: LoadReport) -> None:
    """Warnings in sentences; claims, left-over tensors and past edits where there are any."""
    if report.warnings:
        shown, more = report.warnings[:SHOWN_WARNINGS], report.warnings[SHOWN_WARNINGS:]
        bullet = "- " if len(shown) > 1 else ""
        st.warning("\n".join(bullet + plain(warning) for warning in shown), icon=":material/warning:")
        if more:
            with st.expander(f"{len(more)} more warnings"):
                st.code("\n".join(more), language=None)
    if report.claims:
        wrong = sum(not claim.agrees for claim in report.claims)
        with st.expander(
            f"Claimed and found: {wrong} of {len(report.claims)} claims differ", expanded=wrong > 0
        ):
            rows = [
                {
                    "key": claim.key,
                    "claimed": str(claim.claimed),
                    "found": str(claim.found),
                    "": "agrees" if claim.agrees else "differs",
                }
                for claim in report.claims
            ]
            table(rows, label="claimed and found")
    if report.unused:
        with st.expander(f"Tensors left over: {len(report.unused)}"):
            st.code("\n".join(report.unused), language=None)
    if report.past_edits:
        with st.expander("Past permanent edits of the base, read off the original gate weights"):
            rows = [
                {
                    "layer": edit.layer,
                    "edits": len(edit.singular_values),
                    "singular values": ", ".join(map(number, edit.singular_values)) or "none above the noise",
                    "noise": number(edit.noise),
                    "note": edit.note,
                }
                for edit in report.past_edits
            ]
            table(rows, label="past edits")


def parity_table(selection: Selection) -> None:
    """Table of parity checks: measured difference and allowed rounding; nothing before they ran."""
    try:
        parity = parity_checks(selection)
    except NptVizError:  # said above
        return
    if parity is None:
        st.button("Check parity now", key="home_parity", on_click=ask_for_parity, args=[selection])
        return
    st.markdown("#### Parity", help=f"Checked on the prompt {code(parity.prompt)}.")
    st.caption(markdown(parity_in_words(parity)))
    rows: list[dict[str, Cell]] = [
        {
            "check": check.name,
            "holds": "yes" if check.passed else "NO",
            "measured": float(check.measured),
            "allowed": float(check.tolerance),
            "unit": check.unit,
            "what is compared": check.meaning,
        }
        for check in parity.checks
    ]
    table(rows, label="parity checks")
