"""Overlaid runs and share areas: the arrays in the figure, the colours, the lines they are held against."""

import numpy as np

from npt_viz.figures.runs import DASHES, SERIES, overlay, share_areas
from npt_viz.results.runs import Line, Shares


def line(series, column, **more):
    return Line(
        series=series, column=column, x=np.array([1.0, 5, 9]), y=np.array([3.0, 2, 0.5]), n_values=3, **more
    )


def test_a_run_keeps_its_colour_whatever_is_drawn_with_it():
    alone = overlay([line("b", "total")], series=["a", "b", "c"])
    both = overlay([line("a", "total"), line("b", "total"), line("b", "kl")], series=["a", "b", "c"])
    assert alone.data[0].line.color == both.data[1].line.color == both.data[2].line.color == SERIES[1]
    assert [each.line.dash for each in both.data] == [DASHES[0], DASHES[0], DASHES[1]]
    assert [each.name for each in both.data] == ["a · total", "b · total", "b · kl"]
    assert len({each.legendgroup for each in both.data}) == 3


def test_the_raw_line_lies_faint_behind_the_smooth_one_and_goes_with_it():
    figure = overlay([line("a", "total", smooth=np.array([3.0, 2.5, 1]))], series=["a"])
    raw, smooth = figure.data
    assert list(raw.y) == [3, 2, 0.5] and list(smooth.y) == [3, 2.5, 1]
    assert raw.opacity < 1 and not raw.showlegend and raw.legendgroup == smooth.legendgroup


def test_the_recovered_share_is_held_against_nothing_and_perfect():
    figure = overlay([line("a", "heldout/recovered")], series=["a"])
    assert {shape.y0 for shape in figure.layout.shapes} == {0.0, 1.0}


def test_stage_lines_stand_along_steps_only_and_once_where_runs_share_them():
    marks = {"a": ((5, "stage 2"),), "b": ((5, "stage 2"),), "absent": ((7, "other"),)}
    both = [line("a", "total"), line("b", "total")]
    assert [shape.x0 for shape in overlay(both, series=["a", "b"], marks=marks).layout.shapes] == [5]
    assert not overlay(both, series=["a", "b"], marks=marks, x="seconds").layout.shapes
    different = marks | {"b": ((6, "stage 2"),)}
    colours = [shape.line.color for shape in overlay(both, series=["a", "b"], marks=different).layout.shapes]
    assert colours == list(SERIES[:2])


def test_an_axis_without_a_positive_value_stays_linear():
    found = Line(series="a", column="c", x=np.array([1.0]), y=np.array([-1.0]))
    assert overlay([found], series=["a"], log=True).layout.yaxis.type is None
    assert overlay([line("a", "total")], series=["a"], log=True).layout.yaxis.type == "log"


def test_names_of_runs_are_shown_as_text():
    assert overlay([line("<b>x</b>", "total")], series=["<b>x</b>"]).data[0].name == "&lt;b&gt;x&lt;/b&gt;"


def test_shares_are_stacked():
    shares = {"direct": np.array([0.75, 0.5]), "of my own": np.array([0.25, 0.5])}
    figure = share_areas(Shares(series="a", steps=np.array([1, 2]), shares=shares), marks=[(2, "stage 2")])
    assert [list(each.y) for each in figure.data] == [[0.75, 0.5], [0.25, 0.5]]
    assert {each.stackgroup for each in figure.data} == {"shares"}
    assert figure.layout.shapes[0].x0 == 2 and figure.layout.yaxis.range == (0, 1)
