"""Compare page: what A and B are, and the cached comparison."""

from typing import TYPE_CHECKING, Any, NamedTuple

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.reproducing import Beneath
from npt_viz.results.comparison import Comparison, compare
from npt_viz.results.inspection import Inspection
from npt_viz.results.load_report import LoadReport
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.kept import results
from npt_viz.ui.cache.opened import Asked, Selection, stamp
from npt_viz.ui.shell import ledger_box, state
from npt_viz.ui.shell.asked import BOS, selection
from npt_viz.ui.widgets.view import View

if TYPE_CHECKING:
    from npt_viz.editing.ledger import Ledger

DELETED = "compare_deleted"
"""Session key: token of A that is pinned where B has none."""

FIRST = "trained"
"""Positions of A before anything is pinned, beside deployed ones: a comparison that every checkpoint has."""


class Asking(NamedTuple):
    """One side as it is asked for."""

    asked: Asked
    edits: tuple[int, ...]
    """Numbers of the ledger's updates beneath."""


def side_a() -> dict[str, Any]:
    """What is pinned as A; before anything is, the view with the other positions."""
    pinned = st.session_state.get("a_side")
    if pinned:
        return pinned
    here = state.side()
    return here | {"positions": "deployed" if here["positions"] == FIRST else FIRST, "layer": None}


def change_a(**changes: object) -> None:
    """Change some of A, and pin it as it then is."""
    st.session_state["a_side"] = side_a() | changes


def swap() -> None:
    """Exchange A and B."""
    other, here = side_a(), state.side()
    state.look_at(other)
    st.session_state["a_side"] = here


def compared(view: View) -> Comparison:
    """A and B, the view, aligned. Raises NptVizError where A cannot be inspected or the two cannot be compared."""
    other, session = side_a(), st.session_state
    if other["model"] != session["model"]:
        raise NptVizError(
            f"A was pinned on the base model {other['model']}, and the head names {session['model']}: only runs of one base "
            "model can be compared; choose that model in the head, or pin A anew"
        )
    try:
        of_a, of_b = sides(view)
        a = _run(of_a, "A")
    except NptVizError as error:
        raise NptVizError(f"A: {error}") from None
    layers = _layer_of(a, other["layer"], view.layer), view.layer
    key = ("comparison", *(_key(each, name) for each, name in ((of_a, "A"), (of_b, "B"))), layers)
    if (found := results().get(key)) is None:
        found = compare(a, _run(of_b, "B"), layer=layers)
        results().put(key, found)
    return found


def sides(view: View) -> tuple[Asking, Asking]:
    """A and B as they are asked for. Raises NptVizError where A's checkpoint does not open."""
    return _asking(view, side_a()), Asking(view.asked, tuple(st.session_state["edits"]))


def choices(view: View) -> dict[str, object] | None:
    """Arguments of `reproducing.script("compare", …)` that stand for the page's controls; None where A and B cannot be compared."""
    try:
        found, (a, b) = compared(view), sides(view)
    except NptVizError:
        return None
    of_a, of_b = a.asked.selection, b.asked.selection
    is_same = (of_a.checkpoint, of_a.semantics) == (of_b.checkpoint, of_b.semantics)
    return {
        "layers": found.layers,
        "of_a": a.asked.question,
        "checkpoint_of_a": "" if is_same else of_a.checkpoint,
        "semantics_of_a": of_a.semantics,
        "beneath": (_reproduced(a, "A"), _reproduced(b, "B")),
        "metric": view.metric_name,
        "keep_sinks": view.with_sinks,
    }


def column_of(view: View, found: Comparison) -> int:
    """Column of the pinned token; before one is pinned, that of the largest difference."""
    session, places = st.session_state, {pair: i for i, pair in enumerate(found.pairs)}
    deleted = next((i for (a, b), i in places.items() if b is None and a == session.get(DELETED)), None)
    if deleted is not None:
        return deleted
    if session["tok"] is None:
        largest = found.largest(view.metric_name, 1, with_sinks=view.with_sinks)
        return largest[0].column if largest else 0
    return next(i for (_, b), i in places.items() if b == view.token)


def pin(found: Comparison, column: int, layer: int | None) -> None:
    """Pin a column's token, and a layer for both sides where they look at the same one."""
    pair = found.pairs[column]
    st.session_state[DELETED] = pair.a if pair.b is None else None
    is_one_layer = found.layers[0] == found.layers[1]
    if layer is not None and is_one_layer and side_a()["layer"] is not None:
        change_a(layer=layer)
    if pair.b is not None:
        state.pin(pair.b, layer)
    elif layer is not None:
        st.session_state["layer"] = layer


def ledger_of() -> "Ledger":
    """Ledger of this browser for the open model."""
    return ledger_box.ledger(selection())


def report_of(other: dict[str, Any]) -> LoadReport:
    """Load report of A's checkpoint, on the model of the head."""
    return opened.load_report(_selection(other))


def _selection(other: dict[str, Any]) -> Selection:
    checkpoint = other["checkpoint"] or ""
    return selection()._replace(
        checkpoint=checkpoint,
        checkpoint_stamp=stamp(checkpoint) if checkpoint else "",
        semantics=other["semantics"],
    )


def _asking(view: View, other: dict[str, Any]) -> Asking:
    layers = sorted(each.layer for each in report_of(other).layers)
    chosen = tuple(other["on"]) if other["on"] and sorted(other["on"]) != layers else None
    question = Asked(_selection(other), view.question).having(
        prompt=other["prompt"], layers=chosen, mode=other["mode"], positions=other["positions"], chat=other["chat"],
        bos=BOS[other["bos"]],
    )  # fmt: skip
    return Asking(question, tuple(other["edits"]))


def _layer_of(run: Inspection, wanted: int | None, of_b: int) -> int:
    """A's layer: the one that it was pinned with, or B's, or else the highest."""
    if wanted is not None:
        return wanted
    return of_b if of_b in run.layers else max(run.layers)


def _run(side: Asking, name: str) -> Inspection:
    if not side.edits:
        return opened.inspection(side.asked)
    from npt_viz.capture.inspection import inspect

    key = ("inspection", *_key(side, name))
    if (run := results().get(key)) is None:
        model, checkpoint = opened.opened(side.asked.selection)
        run = inspect(model, checkpoint, side.asked.question, edits=_beneath(side.edits, name))
        results().put(key, run)
    return run


def _key(side: Asking, name: str) -> tuple:
    """Key of one side's inspection in the cache. name: A or B, for the message.

    Updates are told by the digests of what they write, because each browser numbers its own.
    Raises NptVizError for an update that is no longer in the ledger.
    """
    return (side.asked, _digests(side, name)) if side.edits else (side.asked,)


def _digests(side: Asking, name: str) -> tuple[str, ...]:
    return tuple(update.digest() for update in _beneath(side.edits, name).updates) if side.edits else ()


def _reproduced(side: Asking, name: str) -> Beneath:
    return Beneath(digests=_digests(side, name))


def _beneath(numbers: tuple[int, ...], name: str) -> "Ledger":
    from npt_viz.editing.ledger import Ledger

    ledger = ledger_of()
    by_number = {entry.number: entry.update for entry in ledger.entries}
    if gone := [number for number in numbers if number not in by_number]:
        raise NptVizError(
            f"update #{gone[0]}, which lies beneath {name}, is no longer in this browser's ledger; choose again what lies "
            "there, or bring the update back"
        )
    return Ledger.restored(ledger.model, [by_number[number] for number in numbers], numbers)
