"""Head of every Inspect page: title, controls, the answer in one sentence, the token strip."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.figures.theme import Theme
from npt_viz.results.inspection import METRICS, TOKEN_METRICS, Inspection
from npt_viz.results.load_report import LoadReport
from npt_viz.results.sentences.tokens import largest
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.loading import ready
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.shell import state
from npt_viz.ui.shell.sidebar import asked, selection
from npt_viz.ui.shell.text import plain
from npt_viz.ui.widgets.strip import first_choices, token_strip
from npt_viz.ui.widgets.view import ALL_METRICS, View


def inspect_page(title: str, question: str, answer: Callable[[View], str]) -> View:
    """Draw the head and return the view; waits for the model after the title is on the screen.

    answer: one sentence about what is seen, as safe Markdown.
    """
    page_title(title, question)
    report = loaded()
    running = running_layers(report)
    _controls(report, running)
    view = inspected(report, running)
    st.markdown(answer(view))
    for note in view.run.notes:
        st.caption(plain(note))
    strip(view)
    return view


def page_title(title: str, question: str) -> None:
    """Draw the page's name and the question that it answers."""
    st.html(f'<div class="npt-title"><h1>{title}</h1><span>{question}</span></div>')


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
    unknown = {*session["on"], session["layer"]} - {None, *layers}
    for layer in sorted(unknown):
        st.warning(
            f"Layer {layer} is no NPT layer of this checkpoint, which has {', '.join(map(str, layers))}."
        )
    chosen = sorted({*session["on"]} & {*layers})
    if chosen != session["on"]:
        session["on"] = chosen
    running = chosen or layers
    if session["layer"] not in running:
        if session["layer"] in layers:
            st.info(
                f"Layer {session['layer']} is switched off: it runs as in the base model and there is nothing of it to "
                f"see. Shown: layer {max(running)}."
            )
        session["layer"] = max(running)
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
    return replace(view, token=most_moved(view) if session["tok"] is None else session["tok"])


def most_moved(view: View) -> int:
    """Token that a page begins with: where the prediction moves most, or the last one."""
    if view.run.kl is None:
        return len(view.run.pieces) - 1
    return largest(view.run.kl, view.left_out)


def theme() -> Theme:
    """Theme of the browser; light where it is not known."""
    return "dark" if st.context.theme.type == "dark" else "light"


def strip(view: View) -> None:
    """Draw the prompt's token strip; a click pins a token for every page."""
    run = view.run
    columns: dict[str, np.ndarray | list[str]] = {
        m.label: run.layers[view.layer].values(name) for name, m in METRICS.items()
    }
    if run.base_top is not None and run.npt_top is not None:
        columns |= {m.label: getattr(run, name) for name, m in TOKEN_METRICS.items()}
        columns |= {"next, base": first_choices(run.base_top), "next, NPT": first_choices(run.npt_top)}
    token_strip(
        run.pieces,
        view.layer_values,
        view.scale,
        key="strip",
        pinned=view.token,
        on_pin=state.pin,
        left_out=view.left_out,
        columns=columns,
    )


def _controls(report: LoadReport, running: list[int]) -> None:
    variants = {each.layer: each.variant for each in report.layers}
    place = st.columns([1.2, 2, 4, 1.4], vertical_alignment="bottom")
    place[0].selectbox(
        "Layer",
        running,
        key="layer",
        format_func=lambda layer: f"{layer} · {variants[layer]}",
        persist_state="session",
    )
    place[1].selectbox(
        "Colour",
        list(ALL_METRICS),
        key="metric",
        format_func=lambda name: ALL_METRICS[name].label,
        persist_state="session",
        help="What the colours of the strip and the map show; the tooltip of a token has all of them.",
    )
    place[2].pills(
        "Layers that run as NPT",
        list(variants),
        selection_mode="multi",
        key="on",
        persist_state="session",
        help="None chosen: all. A layer that is off runs as in the base model.",
    )
    place[3].toggle(
        "Count sinks",
        key="sinks",
        persist_state="session",
        help="Let attention sinks count in colours and medians. Their residual norm dwarfs the other tokens'.",
    )
