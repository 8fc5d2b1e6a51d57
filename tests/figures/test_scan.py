"""Figures of scans hold the scan's numbers."""

import numpy as np
import pytest
from stated_scans import QUANTITIES, drawn, result_of, sinks_of

from npt_viz.figures.scan import by_group, differences, spreads
from npt_viz.results.scan import CLASSES
from npt_viz.scanning.comparing import compare_scans


@pytest.fixture(scope="module")
def scans():
    columns = drawn(13)
    other = columns | {"recovered": columns["recovered"] - np.float32(0.2)}
    return [
        result_of(each, sinks_of(columns, 13), name, case="figures")
        for each, name in ((columns, "a"), (other, "b"))
    ]


def test_a_row_has_the_quantiles_of_its_layer(scans):
    figure = spreads(scans[0], "recovered")
    outer, inner, medians, means = figure.data
    assert list(outer.x) == [scans[0].quantile("7 recovered", level) for level in (0.05, 0.95)]
    assert list(inner.x) == [scans[0].quantile("7 recovered", level) for level in (0.25, 0.75)]
    assert list(medians.x) == [scans[0].quantile("7 recovered", 0.5)]
    assert list(means.x) == [scans[0].mean("7 recovered")]
    assert list(means.error_x.array) == [scans[0].half_width("7 recovered")]
    assert figure.layout.yaxis.ticktext == ("layer 7",)
    assert spreads(scans[0], "kl").layout.yaxis.ticktext == ("NPT model",)


def test_a_point_is_the_mean_of_its_class(scans):
    figure = by_group(scans[0], "7 recovered")
    moments, i = (
        scans[0].group("class"),
        QUANTITIES.index(next(q for q in QUANTITIES if q.name == "recovered")),
    )
    rows = [CLASSES.index("word start"), CLASSES.index("sink")]
    assert list(figure.data[0].x) == list(moments.means[rows, i])
    assert figure.layout.yaxis.ticktext == tuple(f"{CLASSES[row]} · {moments.n[row, i]}" for row in rows)


def test_differences_have_their_intervals(scans):
    found = compare_scans(*scans)
    figure = differences(found, ["7 recovered"])
    assert figure.data[0].x[0] == pytest.approx(-0.2, abs=1e-6)
    assert figure.data[0].error_x.array[0] == found.of("7 recovered").half_width
