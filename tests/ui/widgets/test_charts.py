"""A click pins what lies under it: token and layer in a map, the token alone in a strip, the layer alone in a row."""

from dataclasses import replace

import numpy as np
import pytest
from views import layer, view

from npt_viz.figures.maps import layer_by_token
from npt_viz.results.inspection import METRICS
from npt_viz.ui.inspect.reconstruction import panels
from npt_viz.ui.shell import state
from npt_viz.ui.widgets import charts, prompt

LAYERS = (3, 7, 11)


@pytest.fixture
def session(monkeypatch) -> dict:
    """The session's state, with layer 7 and token 1 pinned."""
    pinned = {"layer": 7, "tok": 1}
    monkeypatch.setattr(state.st, "session_state", pinned)
    return pinned


@pytest.fixture
def three_layers():
    return view(*(layer(number, np.linspace(0, 1, 5)) for number in LAYERS))


@pytest.fixture
def click(monkeypatch, session):
    """click(draw, test): draw with a fake Streamlit and click the first point that passes the test."""

    def clicked(draw, under_the_pointer) -> None:
        drawn = {}
        monkeypatch.setattr(
            charts.st, "plotly_chart", lambda figure, **given: drawn.update(given, figure=figure)
        )
        draw()
        points = [
            {"x": x, "label": drawn["figure"].layout.yaxis.ticktext[int(y)], "customdata": data}
            for trace in drawn["figure"].data
            if trace.customdata is not None and trace.type == "scatter"
            for x, y, data in zip(trace.x, trace.y, trace.customdata, strict=True)
        ]
        point = next(point for point in points if under_the_pointer(point))
        # As Streamlit hands a row of customdata over.
        point["customdata"] = {str(i): value for i, value in enumerate(point["customdata"])}
        session[drawn["key"]] = {"selection": {"points": [point]}}
        drawn["on_select"]()

    return clicked


def a_map(view) -> None:
    """A map as pages draw it."""
    figure = layer_by_token(view.values, layers=view.layers, tokens=view.run.tokens, scale=view.scale)
    charts.chart(figure, key="a_map", on_click=lambda cell: state.pin(int(cell[1]), int(cell[0])))


def test_a_click_on_a_cell_of_the_map_pins_its_token_and_its_layer(three_layers, session, click):
    click(
        lambda: a_map(three_layers),
        lambda point: point["x"] == 4 and point["label"] == "layer 11",
    )
    assert (session["tok"], session["layer"]) == (4, 11)


def test_a_click_beside_every_point_changes_nothing(three_layers, session, monkeypatch):
    drawn = {}
    monkeypatch.setattr(charts.st, "plotly_chart", lambda figure, **given: drawn.update(given))
    a_map(three_layers)
    session["a_map"] = {"selection": {"points": []}}
    drawn["on_select"]()
    assert (session["tok"], session["layer"]) == (1, 7)


def test_a_click_on_the_strip_pins_the_token_and_keeps_the_layer(three_layers, session, monkeypatch):
    drawn = {}
    monkeypatch.setattr(prompt, "token_view", lambda data, **named: drawn.update(named | data))
    monkeypatch.setattr(prompt, "pin_signal", lambda *given, **named: None)
    session |= {"prompt": "", "chat": False, "bos": "auto"}
    prompt.prompt_view(replace(three_layers, run=replace(three_layers.run, kl=None)))
    drawn["on_pin"](3, None)
    assert (session["tok"], session["layer"]) == (3, 7)
    assert METRICS["recovered"].label in [column["label"] for column in drawn["columns"]]


def test_a_click_on_a_layers_bar_pins_the_layer_and_keeps_the_token(three_layers, session, monkeypatch):
    """The main figure of Reconstruction: its points are layers."""
    drawn = {}
    monkeypatch.setattr(panels, "reconstruction_of", lambda view: nothing_compared(view))
    monkeypatch.setattr(panels, "positions_compared", lambda view: None)
    monkeypatch.setattr(panels, "known_floors", lambda view: [])
    monkeypatch.setattr(panels, "floor_targets", lambda view: [])
    monkeypatch.setattr(panels.figures, "shares_by_layer", lambda *given, **named: None)
    monkeypatch.setattr(panels, "chart", lambda figure, **given: drawn.update(given))
    monkeypatch.setattr(panels.st, "caption", lambda text: None)
    panels.shares(three_layers)
    drawn["on_click"]([3])
    assert (session["tok"], session["layer"]) == (three_layers.token, 3)


def nothing_compared(view):
    from npt_viz.results.reconstruction import Reconstruction

    return Reconstruction(
        tokens=view.run.tokens, positions="deployed", is_sink=view.run.is_sink, local={}, propagated={}
    )
