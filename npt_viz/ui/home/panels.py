"""Home page: the load report and the parity checks."""

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.theme import number
from npt_viz.results.load_report import LoadReport
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.memory import size
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.home.state import ask_for_parity, parity_checks
from npt_viz.ui.shell.text import code, plain

SHOWN_WARNINGS = 4


def identity(selection: Selection, report: LoadReport) -> None:
    """Five facts in one row: model, checkpoint, tensors, base match, parity."""
    facts = opened.model_facts(selection)
    tiles = st.columns(5)
    _tile(tiles[0], "Base model", facts["name"], f"{facts['size']}, {facts['runs']}; {facts['source']}")
    if facts["notes"]:
        st.caption(f":material/info: Base model: {plain(facts['notes'])}")
    layers = ", ".join(str(each.layer) for each in report.layers)
    _tile(
        tiles[1],
        "NPT checkpoint",
        report.semantics if len(report.semantics) < 12 else "mixed",
        f"{report.name}: format {report.format}, layer{'s' * (len(report.layers) > 1)} {layers}",
    )
    left_over = len(report.unused)
    _tile(
        tiles[2],
        "Tensors used",
        f"{report.tensors_used} of {report.tensors_total}",
        f"{left_over} left over"
        + (f", {report.base_tensors} of the base beside them" if report.base_tensors else ""),
        good=left_over == 0 and report.tensors_used == report.tensors_total,
    )
    match = report.base_match
    _tile(
        tiles[3],
        "Made for this base",
        {"match": "yes", "mismatch": "no", "unknown": "not known"}[match.status],
        match.sentence,
        good={"match": True, "mismatch": False}.get(match.status),
    )
    _parity(tiles[4], selection)


def _tile(place, label: str, value: str, detail: str, good: bool | None = None) -> None:
    mark = {True: ":green[●] ", False: ":red[●] ", None: ""}[good]
    with place.container(border=True, height="stretch"):
        st.markdown(f":gray[:small[{label}]]  \n{mark}**{plain(value)}**  \n:gray[:small[{plain(detail)}]]")


def _parity(place, selection: Selection) -> None:
    try:
        parity = parity_checks(selection)
    except NptVizError as error:
        _tile(place, "Parity", "cannot be checked", str(error), good=False)
        return
    if parity is None:
        _tile(place, "Parity", "not checked", "a large model: the check runs it a few times")
        place.button("Check now", key="home_parity", on_click=ask_for_parity, args=[selection])
        return
    failed = ", ".join(check.name for check in parity.failed)
    detail = f"fails: {failed}" if failed else f"{len(parity.checks)} checks hold in {parity.dtype}"
    _tile(place, "Parity", "holds" if parity.passed else "broken", detail, good=parity.passed)


def load_table(report: LoadReport) -> None:
    """Table of layers: what the file holds of each."""
    rows = [
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
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content" if len(rows) <= 12 else 460)


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
            st.dataframe(pd.DataFrame(rows), hide_index=True)
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
            st.dataframe(pd.DataFrame(rows), hide_index=True)


def parity_table(selection: Selection) -> None:
    """Table of parity checks: measured difference and allowed rounding; nothing before they ran."""
    try:
        parity = parity_checks(selection)
    except NptVizError:  # said above
        return
    if parity is None:
        return
    st.markdown("#### Parity", help=f"Checked on the prompt {code(parity.prompt)}.")
    rows = [
        {
            "check": check.name,
            "holds": "yes" if check.passed else "NO",
            "measured": number(check.measured),
            "allowed": number(check.tolerance),
            "unit": check.unit,
            "what is compared": check.meaning,
        }
        for check in parity.checks
    ]
    st.table(pd.DataFrame(rows).set_index("check"))
