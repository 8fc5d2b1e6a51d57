"""The table behind a figure has every number that the figure draws."""

import ast

import numpy as np
import plotly.graph_objects as go

from npt_viz.figures.table import table_of
from npt_viz.places import ROOT

CHANCE = np.random.default_rng(7)


def test_lines_and_bars_point_by_point_with_their_errors():
    y, above, below = CHANCE.normal(size=(3, 5))
    figure = go.Figure(
        [
            go.Scatter(
                x=[2, 3, 5, 7, 11], y=y, name="held out", error_y={"array": above, "arrayminus": below}
            ),
            go.Bar(x=["a", "b", "c"], y=[1.5, None, -2.0], text=["one", "two", "three"], base=[0, 3, 1]),
        ]
    )
    found = table_of(figure)
    assert list(found.columns) == ["series", "x", "y", "base", "text", "error_above", "error_below"]
    line, bars = (part for _, part in found.groupby("series", sort=False))
    assert line["x"].tolist() == [2, 3, 5, 7, 11] and np.array_equal(line["y"].astype(float), y)
    assert np.array_equal(line["error_above"].astype(float), above)
    assert np.array_equal(line["error_below"].astype(float), below)
    assert bars["series"].unique() == ["series 2"] and bars["text"].tolist() == ["one", "two", "three"]
    assert bars["x"].tolist() == ["a", "b", "c"] and bars["base"].tolist() == [0, 3, 1]
    assert bars["y"].tolist()[::2] == [1.5, -1.0] and bars["y"].isna().tolist() == [False, True, False]


def test_a_profile_has_the_values_that_its_bars_reach():
    from npt_viz.figures.profiles import token_profile
    from npt_viz.figures.theme import colour_scale
    from npt_viz.results.inspection import METRICS

    values = CHANCE.uniform(0.2, 0.9, size=7)
    scale = colour_scale(METRICS["recovered"], values[None], "light")
    figure = token_profile(values, tokens=[f"<t{i}>" for i in range(7)], scale=scale, pin=2)
    bars = table_of(figure).query("series == 'series 1'")
    assert np.allclose(bars["y"].astype(float), values) and "<b>" not in "".join(bars["text"])
    assert bars["text"].iloc[3].startswith("<t3>")


def test_a_map_has_a_row_a_cell():
    z = CHANCE.normal(size=(3, 5))
    found = table_of(go.Figure(go.Heatmap(z=z, x=list("abcde"), y=[4, 9, 15], name="share")))
    assert len(found) == 15 and set(found["series"]) == {"share"}
    for i, y in enumerate([4, 9, 15]):
        for j, x in enumerate("abcde"):
            cell = found[(found["x"] == x) & (found["y"] == y)]
            assert cell["z"].tolist() == [z[i, j]]


def test_the_line_that_a_figure_is_held_against_is_in_it():
    figure = go.Figure(go.Scatter(y=[1.0, 2.0]))
    figure.add_hline(0.25, name="random")
    found = table_of(figure)
    assert found[found["series"] == "random"]["y"].tolist() == [0.25]
    assert found[found["series"] == "series 1"]["x"].tolist() == [0, 1]


def test_positions_that_stand_for_words_are_words():
    figure = go.Figure(go.Bar(x=[0.5, 0.25], y=[0, 1], orientation="h"))
    figure.update_yaxes(tickvals=[0, 1], ticktext=["along the mean<br><b>a &lt; b</b>", "rest"])
    assert table_of(figure)["y"].tolist() == ["along the mean, a < b", "rest"]
    assert table_of(figure)["x"].tolist() == [0.5, 0.25]


def test_a_figure_without_points_is_an_empty_table():
    assert table_of(go.Figure()).empty


def test_every_trace_that_the_app_draws_is_of_a_kind_that_the_table_knows():
    traces = {
        node.func.attr
        for file in (ROOT / "npt_viz" / "figures").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "go"
    }
    assert traces - {"Figure", "Layout"} <= {"Scatter", "Scattergl", "Bar", "Heatmap"}, traces
