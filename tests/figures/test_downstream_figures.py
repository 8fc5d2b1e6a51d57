"""Every NPT number stands beside the same number with the modulation off."""

import numpy as np
import pytest

from npt_viz.figures.downstream import cascade, drift, kl_by_arm, kl_by_token
from npt_viz.results.downstream import Arm, Continuations, Downstream, Run


def run(kl, drift=(0, 0, 0.1)):
    kl = np.array(kl, float)
    return Run(
        kl=kl, nll=np.array([1.0, 3.0, np.nan]), agrees=np.array([True, False, True]), drift=np.array(drift)
    )


def arm(layers, npt, off):
    return Arm(
        layers=layers, npt=run([npt, npt / 2, 2 * npt]), off=run([off, off / 2, 2 * off], (0, 0.1, 0.3))
    )


@pytest.fixture
def result():
    return Downstream(
        tokens=("<b>", "the", "the"),
        sequence=np.zeros(3, int),
        position=np.arange(3),
        layers=(10, 15),
        nll_base=np.array([1.0, 2.0, np.nan]),
        arms=(arm((10,), 0.02, 0.1), arm((10, 15), 0.1, 0.2), arm((15,), 0.05, 0.07)),
        positions="deployed",
        attention={10: "withheld", 15: "withheld"},
    )


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_the_whole_model_stands_above_each_layer_alone(result):
    figure = kl_by_arm(result)
    assert list(trace(figure, "NPT").x) == [0.1, 0.02, 0.05]
    assert list(trace(figure, "modulation off").x) == [0.2, 0.1, 0.07]
    assert [text.split(" ·")[0] for text in figure.layout.yaxis.ticktext] == ["all", "layer 10", "layer 15"]
    assert "50" in figure.layout.yaxis.ticktext[0]


def test_the_cascade_climbs_from_below(result):
    figure = cascade(result)
    assert list(trace(figure, "NPT").y) == [0.02, 0.1] and list(trace(figure, "modulation off").y) == [
        0.1,
        0.2,
    ]
    assert figure.layout.xaxis.ticktext == ("10", "+15")


def test_drift_is_drawn_at_every_depth_with_the_npt_layers_marked(result):
    figure = drift(result)
    assert list(trace(figure, "NPT").y) == [0, 0, 0.1] and list(trace(figure, "modulation off").y) == [
        0,
        0.1,
        0.3,
    ]
    assert [line.x0 for line in figure.layout.shapes] == [10, 15]


def test_the_tokens_drawn_are_those_shown_and_stay_text(result):
    figure = kl_by_token(result, arm=result.whole, shown=range(0, 2), pin=1)
    bars = trace(figure, "NPT")
    assert list(bars.y) == [0.1, 0.05] and bars.customdata[:, 0].tolist() == [0, 1]
    assert "&lt;b&gt;" in bars.text[0]
    assert list(trace(figure, "modulation off").y) == [0.2, 0.1]


def test_perplexities_are_over_tokens_with_a_next_one(result):
    assert result.perplexity_base == pytest.approx(np.exp(1.5))
    assert result.whole.npt.perplexity == pytest.approx(np.exp(2.0))
    assert result.whole.npt.agreement == pytest.approx(2 / 3)


def test_a_continuation_says_where_it_leaves_the_base():
    found = Continuations(
        prompt="p",
        base=("a", "b", "c"),
        npt=("a", "x", "c"),
        off=("a", "b", "c"),
        layers=(15,),
        positions="deployed",
    )
    assert found.same(found.npt) == 1 and found.same(found.off) == 3
