"""What is open and whether its numbers can be trusted: the load report, the semantics, the parity checks."""

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.theme import number
from npt_viz.results.load_report import LoadReport
from npt_viz.results.parity import Parity
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.memory import size
from npt_viz.ui.cache.opened import Source
from npt_viz.ui.shell.text import code, plain

CHEAP_BYTES = 2e9
"""Models up to this size have their parity checked without being asked."""

SHOWN_WARNINGS = 4


def identity(source: Source, report: LoadReport) -> None:
    """Five facts in one row: model, checkpoint, tensors, base match, parity."""
    facts = opened.model_facts(source)
    tiles = st.columns(5)
    _tile(tiles[0], "Base model", facts["name"], f"{facts['size']}, {facts['runs']}; {facts['source']}")
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
    _parity(tiles[4], source)


def load_table(report: LoadReport) -> None:
    """One row a layer: what the file really holds."""
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


def semantics_choice(report: LoadReport) -> None:
    """What the layers compute and how that is known; a choice where the tensors allow several readings."""
    rules = {str(each.semantics["rule"]) for each in report.layers}
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    if len(rules) == 1:
        names = opened.variants_for(rules.pop())
        left.selectbox(
            "Read the layers as",
            ["", *names],
            key="semantics",
            format_func=lambda name: f"{name}: {names[name]}" if name else "as found",
            help="The tensors of N1 and N2, and of N3 and N4, have the same names: only you can know whether attention "
            "stays in the residual. A choice here goes into the link.",
            persist_state="session",
        )
    first = report.layers[0]
    path = {
        "withheld": "attention goes nowhere else: out = h + MLP′(z), which has to reconstruct a + MLP(z_C)",
        "beside": "attention is added beside the MLP: out = h + a + MLP′(z), which has to reconstruct MLP(z_C)",
        "standard": "attention is as in the base model: out = h + a + MLP′(z_C)",
    }[str(first.semantics["attention"])]
    known = (
        report.provenance if len(report.provenance) < 60 else "known in different ways for different layers"
    )
    alike = len({str(each.semantics["attention"]) for each in report.layers}) == 1
    where = "every layer" if alike and len(report.layers) > 1 else f"layer {first.layer}"
    right.markdown(f"**{plain(report.semantics)}**, {plain(known)}. In {where} {path}.")


def _parity(place, source: Source) -> None:
    try:
        found = _parity_of(source)
    except NptVizError as error:
        _tile(place, "Parity", "cannot be checked", str(error), good=False)
        return
    if found is None:
        _tile(place, "Parity", "not checked", "a large model: the check runs it a few times")
        place.button("Check now", key="home_parity", on_click=_ask_parity, args=[source])
        return
    failed = ", ".join(check.name for check in found.failed)
    detail = f"fails: {failed}" if failed else f"{len(found.checks)} checks hold in {found.dtype}"
    _tile(place, "Parity", "holds" if found.passed else "broken", detail, good=found.passed)


def _parity_of(source: Source) -> Parity | None:
    """Checked without being asked where that is cheap; else None until it is asked for."""
    is_cheap = opened.opened(source)[0].memory_bytes() <= CHEAP_BYTES
    return opened.parity(source) if is_cheap or st.session_state.get("_parity_asked") == source else None


def _ask_parity(source: Source) -> None:
    st.session_state["_parity_asked"] = source


def parity_table(source: Source) -> None:
    """Every check with what was measured and what rounding allows; nothing before the checks ran."""
    try:
        found = _parity_of(source)
    except NptVizError:  # said above
        return
    if found is None:
        return
    st.markdown("#### Parity", help=f"Checked on the prompt {code(found.prompt)}.")
    rows = [
        {
            "check": check.name,
            "holds": "yes" if check.passed else "NO",
            "measured": number(check.measured),
            "allowed": number(check.tolerance),
            "unit": check.unit,
            "what is compared": check.meaning,
        }
        for check in found.checks
    ]
    st.table(pd.DataFrame(rows).set_index("check"))


def _tile(place, label: str, value: str, detail: str, good: bool | None = None) -> None:
    mark = {True: ":green[●] ", False: ":red[●] ", None: ""}[good]
    with place.container(border=True, height="stretch"):
        st.markdown(f":gray[:small[{label}]]  \n{mark}**{plain(value)}**  \n:gray[:small[{plain(detail)}]]")


def _by_target(numbers) -> str:
    found = dict(numbers)
    if len(set(found.values())) == 1:
        return str(next(iter(found.values())))
    return ", ".join(f"{target} {n}" for target, n in found.items())
