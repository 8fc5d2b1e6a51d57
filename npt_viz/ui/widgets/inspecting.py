"""An Inspect page: its head, the prompt as a token view, the answer in one sentence, and what the page shows below.

The token view, the answer and the page's body are one fragment: a pin draws these anew and nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.theme import Theme
from npt_viz.figures.thumbnail import profile
from npt_viz.results.inspection import Inspection
from npt_viz.results.load_report import LoadReport
from npt_viz.results.sentences import Exact, said
from npt_viz.results.sentences.tokens import most_moved, tokens
from npt_viz.results.words import counted
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.loading import ready
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.shell import keeping, state
from npt_viz.ui.shell.asked import asked, selection
from npt_viz.ui.shell.guarded import guarded
from npt_viz.ui.shell.recording import record
from npt_viz.ui.shell.text import plain
from npt_viz.ui.widgets import sheet, tour
from npt_viz.ui.widgets.head import page_title, question_bar, source_bar
from npt_viz.ui.widgets.painted import has_painted, wait_for_paint
from npt_viz.ui.widgets.prompt import Colours, colour_choice, prompt_view
from npt_viz.ui.widgets.token_view import Part, is_fragment_rerun
from npt_viz.ui.widgets.view import View
from npt_viz.workspace.numbers import packed, without_text

FEW_TOKENS = 6
"""Tokens below which no median has a 95 % interval."""


def inspect_page(
    title: str,
    question: str,
    answer: Callable[[View], str],
    body: Callable[[View], None],
    *,
    beside: Callable[[View], None] | None = None,
    colours: Callable[[View], Colours] | None = None,
    above: Callable[[LoadReport], None] | None = None,
    below: Callable[[LoadReport], None] | None = None,
    parts: Sequence[Part] | None = None,
    drawn: Callable[[View], None] | None = None,
    charts: bool = True,
) -> None:
    """Draw a page about the prompt.

    answer: one sentence about what is seen, as safe Markdown. body: draws what stands below it.
    beside: draws what stands to the right of the token view, which then has profile and map unless parts says otherwise.
    colours: of the prompt, in place of the metric that is chosen for all pages. drawn: draws another token view in its place.
    above, below: draw what a pin does not change, above the token view and at the end.
    charts: False where the first screen has no figure beside the token view.
    """
    with st.container(key="title_line", horizontal=True, vertical_alignment="center"):
        page_title(title, question)
        if colours is None:
            colour_choice()
    line = source_bar(asks=True)
    report = loaded()
    running = running_layers(report)
    question_bar(line, report, running, pins=drawn is None)
    tour.step(title)
    if above:
        above(report)
    drawn_layer = st.session_state["layer"]
    has_all = has_painted()
    shown: Sequence[Part] = parts or (("strip", "profile", "map") if beside else ("strip",))

    @st.fragment
    def looked_at() -> None:
        with guarded(), keeping.remembered():
            is_behind = st.session_state["layer"] != drawn_layer or (below and has_painted() != has_all)
            if st.session_state.pop("_draw_all", False) or is_behind:
                st.rerun()  # What stands outside the fragment shows the layer, or waits for the first paint.
            state.write()
            _draw(report, running, answer, body, beside, colours, shown, drawn, charts)

    looked_at()
    if below and has_all:
        below(report)


def _draw(
    report: LoadReport,
    running: list[int],
    answer,
    body,
    beside,
    colours,
    parts: Sequence[Part],
    drawn,
    charts: bool,
) -> None:
    sheet.sheet().figures.clear()
    left, right = st.columns([11, 9], gap="medium") if beside else (st.container(), None)
    with left:
        try:
            view = inspected(report, running)
        except NptVizError:
            prompt_view(None, theme=theme())
            raise
        if drawn:
            drawn(view)
        else:
            prompt_view(view, parts=parts, colours=colours(view) if colours else None)
        with st.container(key="answer"):
            sheet.say(answer(view))
            for note in view.run.notes:
                st.caption(plain(note))
            if int((~view.left_out).sum()) < FEW_TOKENS:
                st.caption(
                    "Press Edit and give a longer prompt, or take one of the Examples: medians need more tokens."
                )
    if not wait_for_paint(charts=charts):
        return
    _record(view)
    if beside and right is not None:
        with right:
            beside(view)
    body(view)


def _record(view: View) -> None:
    """Put a question into the history: once, however often its tokens are pinned and whatever page shows it."""
    session, run = st.session_state, view.run
    if session.get("_recorded") == view.asked:
        return
    session["_recorded"] = view.asked
    values = view.layer_values
    record(
        "inspection",
        view.question,
        title=said(Exact(view.asked.text)),
        bare=f"{counted(len(run.pieces), 'token')} without their text",
        sentence=tokens(run, view.layer, with_sinks=view.with_sinks),
        prompt=view.asked.text,
        thumbnail=profile(np.where(view.left_out, np.nan, values), view.metric.reference),
        numbers=lambda with_text: packed(run if with_text else without_text(run)),
    )


def draw_again() -> None:
    """Draw the token view, the answer and the body anew: something that stands above has become known."""
    st.rerun(scope="fragment" if is_fragment_rerun() else "app")


def loaded() -> LoadReport:
    """Load report, after model and checkpoint are open; shows what it waits for."""
    place = st.empty()
    with place.container():
        ready(selection())
        report = opened.load_report(selection())
    place.empty()
    return report


def running_layers(report: LoadReport) -> list[int]:
    """Layers that run as NPT; a layer in the state that cannot be shown is named and replaced."""
    session, layers = st.session_state, sorted(each.layer for each in report.layers)
    unknown = sorted({*session["on"], session["layer"]} - {None, *layers})
    chosen = sorted({*session["on"]} & {*layers})
    if chosen != session["on"]:
        session["on"] = chosen
    running, wanted = chosen or layers, session["layer"]
    if wanted not in running:
        session["layer"] = max(running)
    shown = session["checkpoint"], session["layer"], tuple(running)
    if unknown:
        names = ", ".join(map(str, unknown))
        session["_layer_note"] = (
            shown,
            (
                f"Layer{'s' * (len(unknown) > 1)} {names}: no NPT layer of this checkpoint, which has "
                f"{', '.join(map(str, layers))}. Shown: layer {session['layer']}; choose another one above."
            ),
        )
    elif wanted not in running and wanted is not None:
        session["_layer_note"] = (
            shown,
            (
                f"Layer {wanted} is switched off: it runs as in the base model and there is nothing of it to see. Shown: "
                f"layer {session['layer']}; switch it on under NPT above."
            ),
        )
    # It stands as long as what it is about is shown: the next run knows only the layer that replaced the other.
    if (note := session.get("_layer_note")) and note[0] == shown:
        st.warning(note[1])
    return running


def inspected(report: LoadReport, running: list[int]) -> View:
    """View of the inspected prompt. Raises NptVizError for a prompt without text."""
    every = len(running) == len(report.layers)
    # Every layer switched on is the same question as no choice.
    key = asked().having(layers=None if every else tuple(running))
    prompt = key.question.prompt
    if prompt and not prompt.strip():
        # The library takes it; in a form it is a slip.
        raise NptVizError(
            "the prompt is only white space; write at least one other character and press Inspect"
        )
    run = opened.inspection(key)
    st.session_state["_pass_size"] = len(run.pieces), len(run.layers)
    return view_of(key, run)


def view_of(key: Asked, run: Inspection) -> View:
    """View of a run; a pinned token that the run does not have is replaced."""
    session = st.session_state
    if session["tok"] is not None and not 0 <= session["tok"] < len(run.pieces):
        session["tok"] = None
    view = View(key, run, session["layer"], 0, session["metric"], session["sinks"], theme())
    return replace(
        view, token=most_moved(run, with_sinks=view.with_sinks) if session["tok"] is None else session["tok"]
    )


def theme() -> Theme:
    """Theme of the browser; light where it is not known."""
    return "dark" if st.context.theme.type == "dark" else "light"
