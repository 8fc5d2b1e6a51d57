"""Panels of a scan, running or finished: answer, spread by layer, kinds of tokens, worst tokens, another scan beside it."""

from pathlib import Path

import pandas as pd
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.scan import by_group, differences, rows_of, spreads
from npt_viz.results.scan import GROUPS, ScanComparison, ScanResult
from npt_viz.results.sentences.scan import scan as sentence_of
from npt_viz.results.sentences.scan import scan_comparison
from npt_viz.results.words import counted
from npt_viz.ui.scan.job import ScanSlot, saved_scans
from npt_viz.ui.shell import address
from npt_viz.ui.shell.found import checkpoints_here
from npt_viz.ui.shell.guarded import guarded
from npt_viz.ui.shell.lease import job_status
from npt_viz.ui.shell.nav import page_file
from npt_viz.ui.shell.text import code, markdown, plain
from npt_viz.ui.widgets.charts import chart
from npt_viz.ui.widgets.details import details
from npt_viz.ui.widgets.export import carry
from npt_viz.ui.widgets.inspecting import theme
from npt_viz.ui.widgets.sheet import say
from npt_viz.ui.widgets.tables import Cell, table

REFRESH = 2.0
"""Seconds between two drawings of a running scan."""

HEIGHT = 268
"""Pixels of the main figures: what the first screen leaves."""

BEFORE = 28
"""Tokens in front of a worst token that are shown."""


def results(slot: ScanSlot, folder: Path | None) -> None:
    """Draw the scan in a folder; refreshes itself while it runs."""
    active = slot.is_active
    st.fragment(_results, run_every=REFRESH if active else None)(slot, folder, active)


def _results(slot: ScanSlot, folder: Path | None, was_active: bool) -> None:
    now = slot.job.snapshot() if slot.job else None
    if was_active and now is not None and not now.is_active:
        # The whole page once more: the timer ends, Start is enabled.
        st.rerun()
    is_shown = slot.job is not None and slot.job.plan.folder == folder
    if now is not None and is_shown:
        job_status(now, parts="parts", done=f", {plain(now.stage)}")
    if folder is None:
        with st.container(key="main_figure"):
            st.info("Set up a scan and press Start, or type the folder of one.", icon=":material/info:")
        return
    with guarded():
        result = _result(slot, folder, is_shown=is_shown)
        if result is not None:
            _draw(result)


def _result(slot: ScanSlot, folder: Path, *, is_shown: bool) -> ScanResult | None:
    """The finished scan; of one that runs or was stopped what is known so far, None before its first part."""
    from npt_viz.scanning.folder import RESULT, read_scan

    if is_shown and slot.job is not None and not (folder / RESULT).exists():
        step = slot.job.latest
        return None if step is None else step.result()
    return read_scan(folder)


def _draw(result: ScanResult) -> None:
    column, layer = _choice(result)
    with st.container(key="answer"):
        say(markdown(sentence_of(result, layer)))
    shown = rows_of(result, column)
    of_layer = next((each for each in shown if each.layer in (layer, None)), shown[0])
    with st.container(key="main_figure"):
        left, right = st.columns(2, gap="medium")
        with left:
            chart(spreads(result, column, height=HEIGHT, theme=theme()), key="scan_spreads")
        with right:
            chart(by_group(result, of_layer.key, height=HEIGHT, theme=theme()), key="scan_classes")
    skipped = [f"{n:,} {what} left out" for what, n in result.skipped.items() if n]
    names = ", ".join(result.corpus[:3]) + (
        f" and {len(result.corpus) - 3} more" if len(result.corpus) > 3 else ""
    )
    st.caption(
        f"{code(Path(result.checkpoint).name)} on {code(Path(result.model).name)}. {plain(names)}: {counted(result.n_texts, 'text')} in {counted(result.n_windows, 'window')} of at most "
        f"{counted(result.window, 'token')}. {plain(', '.join(skipped))}"
    )
    for note in result.notes:
        st.caption(plain(note))
    sections = {
        "Worst tokens": lambda: _worst(result, of_layer.key),
        "Every number": lambda: _numbers(result),
        "By position and script": lambda: _groups(result, of_layer.key),
        "Another scan": lambda: _against(result, column),
    }
    details(sections, key="scan_section")
    carry(
        "scan",
        lambda: _frame(result),
        about={"scan": Path(result.folder).name, "base model": result.model, "checkpoint": result.checkpoint},
        theme=theme(),
    )


def _choice(result: ScanResult) -> tuple[str, int]:
    """Draw the choices of number and layer; (column, layer)."""
    columns = list(
        dict.fromkeys(quantity.column for quantity in result.quantities if _has_values(result, quantity.key))
    )
    first = "recovered" if "recovered" in columns else columns[0]
    labels = {quantity.column: quantity.label for quantity in result.quantities}
    left, right, _ = st.columns([3, 1.4, 5], vertical_alignment="bottom")
    if st.session_state.get("scan_number") not in columns:
        st.session_state["scan_number"] = first
    if st.session_state.get("scan_layer") not in result.layers:
        st.session_state["scan_layer"] = max(result.layers)
    column = left.selectbox(
        "Number", columns, key="scan_number", format_func=labels.__getitem__, label_visibility="collapsed"
    )
    layer = right.selectbox(
        "Layer",
        result.layers,
        key="scan_layer",
        format_func=lambda layer: f"layer {layer}",
        label_visibility="collapsed",
    )
    return column, layer


def _has_values(result: ScanResult, key: str) -> bool:
    return bool(result.n_clusters[result.index(key)])


def _numbers(result: ScanResult) -> None:
    rows: list[dict[str, Cell]] = [
        {
            "layer": "model" if row["layer"] is None else str(row["layer"]),
            "number": row["number"],
            "tokens": row["n"],
            "mean": row["mean"],
            "±": row["half_width"],
            "sd": row["sd"],
            "5 %": row["q5"],
            "25 %": row["q25"],
            "median": row["q50"],
            "75 %": row["q75"],
            "95 %": row["q95"],
            "with sinks": row["mean_with_sinks"],
        }
        for row in result.rows()
        if row["n"]
    ]
    table(
        rows,
        label="every number",
        help={
            "±": "Half of the mean's 95 % interval over texts.",
            "with sinks": "Mean with attention sinks; they are left out of all other columns.",
            "median": "Quantiles are within 0.2 % of the value of their rank.",
        },
    )


def _groups(result: ScanResult, key: str) -> None:
    left, right = st.columns(2, gap="medium")
    for place, way in ((left, "position"), (right, "script")):
        with place:
            chart(by_group(result, key, way, theme=theme()), key=f"scan_{way}")
    moments, i = result.group("class"), result.index(key)
    rows: list[dict[str, Cell]] = [
        {
            "class": name,
            "tokens": int(moments.n[j, i]),
            "mean": float(moments.means[j, i]),
            "sd": float(moments.sds[j, i]),
        }
        for j, name in enumerate(GROUPS["class"])
        if moments.n[j, i]
    ]
    table(rows, label="classes of tokens")


def _worst(result: ScanResult, key: str) -> None:
    quantity = result.quantities[result.index(key)]
    tokens = result.worst[result.index(key)]
    if not tokens:
        st.caption("This number has no worst value: choose another.")
        return
    for token in tokens:
        context = result.contexts[token.window]
        before = "".join(context.glyphs[max(0, token.position - BEFORE) : token.position])
        after = "".join(context.glyphs[token.position + 1 : token.position + 6])
        left, middle, right = st.columns([1.1, 9, 1.5], vertical_alignment="center")
        left.markdown(f"**{token.value:.4g}**")
        with middle:
            st.markdown(
                f"{code(before) if before else ''} **{code(context.glyphs[token.position])}** {code(after) if after else ''}  \n"
                f":small[{plain(context.source)}, position {token.position}]"
            )
        with right:
            st.page_link(
                page_file("tokens"),
                label="Tokens",
                icon=":material/open_in_new:",
                query_params=_address(result, context, token.position, quantity.layer),
                help="Open this context on the page Tokens, with the token pinned.",
            )


def _address(result: ScanResult, context, position: int, layer: int | None) -> dict[str, str]:
    """Of the page Tokens with a worst token pinned: the head's model, and the checkpoint that was scanned."""
    session = st.session_state
    layer = max(result.layers) if layer is None else layer
    named = {
        "model": session["model"],
        "checkpoint": _path_of(result.checkpoint),
        "tok": str(position),
        "layer": str(layer),
    }
    named |= {} if context.bos else {"bos": "no"}
    named |= {
        name: value
        for name, value, default in (
            ("mode", result.mode, "local"),
            ("positions", result.positions, "deployed"),
            ("semantics", session["semantics"], ""),
        )
        if value != default
    }
    return named | address.of_prompt(context.text, is_private=bool(session.get("private")))


def _path_of(checkpoint: str) -> str:
    """Path of the checkpoint with this name: the head's, or one that is offered; the head's where none has it."""
    head = st.session_state["checkpoint"]
    name = Path(checkpoint).name
    return next((path for path in (head, *checkpoints_here()) if Path(path).name == name), head)


def _against(result: ScanResult, column: str) -> None:
    others = [folder for folder in saved_scans() if Path(folder) != Path(result.folder)]
    other = st.selectbox(
        "A, the scan to compare with",
        others,
        index=None,
        key="scan_against",
        format_func=lambda folder: Path(folder).name,
        accept_new_options=True,
        placeholder="Choose a scan, or type its folder",
    )
    if not other:
        st.caption("Choose another finished scan as A; the one above is B.")
        return
    with guarded():
        _compared(_comparison(other, result.folder), column)


def _comparison(a: str, b: str) -> ScanComparison:
    from npt_viz.scanning.comparing import compare_scans

    return compare_scans(a, b)


def _compared(comparison: ScanComparison, column: str) -> None:
    keys = [each.quantity.key for each in comparison.differences if each.quantity.column == column]
    if not keys:
        raise NptVizError("A does not have this number; choose another number above")
    for key in keys:
        st.markdown(markdown(scan_comparison(comparison, key)))
    chart(differences(comparison, keys, theme=theme()), key="scan_differences")
    rows: list[dict[str, Cell]] = [
        {
            "layer": "model" if row["layer"] is None else str(row["layer"]),
            "number": row["number"],
            "A": row["A"],
            "B": row["B"],
            "B − A": row["B − A"],
            "±": row["half_width"],
            "verdict": row["verdict"],
        }
        for row in comparison.rows()
    ]
    table(rows, label="differences", help={"±": "Half of the 95 % interval over texts."})


def _frame(result: ScanResult) -> pd.DataFrame:
    return pd.DataFrame(list(result.rows()))
