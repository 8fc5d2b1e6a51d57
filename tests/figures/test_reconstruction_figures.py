"""The numbers inside the figures are the results' numbers, the references are drawn, tokens stay text."""

from dataclasses import replace

import numpy as np
import pytest

from npt_viz.figures.reconstruction import LABEL, ablations, error_parts, gate_trade_off, shares_by_layer
from npt_viz.results.reconstruction import (
    Ablation,
    AblationTable,
    ClassFloor,
    GateOracle,
    LayerFit,
    PositionsCompared,
    Reconstruction,
)

TOKENS = ("the", "<b>cat</b>", "the", "cat", "sat")


def fit(layer, recovered, **changed):
    columns = {
        "relative_error": np.array([0.5, 0.4, 0.3, 0.2, 0.1]),
        "cosine": np.ones(5),
        "magnitude_ratio": np.ones(5),
        "recovered": np.array(recovered),
        "error_along": np.array([-0.3, -0.2, 0.1, 0.0, 0.05]),
        "error_beside": np.array([0.4, 0.3, 0.2, 0.2, 0.08]),
        "unmodulated_error": np.array([0.5, 0.5, 0.5, 0.5, 0.5]),
        "unmodulated_along": np.array([-0.3, -0.4, -0.5, -0.3, 0.0]),
        "exact_error": np.zeros(5),
    }
    return LayerFit(layer=layer, variant="N1", reconstructs="a + MLP(z_C)", **(columns | changed))


@pytest.fixture
def result():
    return Reconstruction(
        tokens=TOKENS,
        is_sink=np.array([True, False, False, False, False]),
        positions="deployed",
        local={3: fit(3, [-900, 0.2, 0.4, 0.6, 0.8]), 15: fit(15, [-900, -3, -2, -2, -1.0])},
        propagated={3: fit(3, [-900, 0.1, 0.2, 0.3, 0.4]), 15: fit(15, [np.nan] * 5)},
    )


@pytest.fixture
def compared(result):
    trained = replace(
        result,
        positions="trained",
        local={3: fit(3, [9, 0.1, 0.7, 0.9, 0.9]), 15: fit(15, [9, 0.3, 0.3, 0.3, 0.3])},
    )
    return PositionsCompared(deployed=result, trained=trained)


def floor(targets, recovered, adapter):
    return ClassFloor(
        layer=3, targets=targets, rank=7, components=1, steps=5, seed=0, n_train=11, n_heldout=5, recovered=recovered,
        recovered_train=0.9, adapter_recovered=adapter, positions="deployed",
    )  # fmt: skip


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_layers_lie_between_no_modulation_and_the_exact_patch(compared):
    figure = shares_by_layer(compared, mode="local", positions="deployed", pin=15)
    own, other = (trace(figure, f"{mode}, positions as deployed") for mode in ("local", "propagated"))
    assert own.x == (0.5, -0.5) and own.marker.symbol == "circle"
    assert other.x[0] == pytest.approx(0.25) and np.isnan(other.x[1])
    # Beyond the edge the point stops, the tooltip does not.
    assert "−200" in own.text[1]
    assert [line.x0 for line in figure.layout.shapes] == [0, 1]
    assert figure.layout.yaxis.ticktext == ("layer 3", "<b>layer 15</b>")
    np.testing.assert_allclose(trace(figure, "80 % of the tokens").x[:2], [0.26, 0.74])


def test_the_other_positions_have_marks_of_their_own(compared):
    figure = shares_by_layer(compared, mode="local", positions="deployed")
    assert trace(figure, "local, without RoPE").x == pytest.approx((0.8, 0.3))
    turned = shares_by_layer(compared, mode="local", positions="trained")
    assert trace(turned, "local, without RoPE").marker.symbol == "circle"
    assert trace(turned, "local, positions as deployed").marker.symbol == "square-open"
    assert trace(turned, "local, positions as deployed").x == (0.5, -0.5)


def test_floors_stand_in_the_row_of_their_layer(compared):
    floors = {3: [floor(("gate",), 0.41, 0.45), floor(("gate", "up"), 0.8, np.nan)]}
    figure = shares_by_layer(compared, mode="local", positions="deployed", floors=floors)
    assert trace(figure, "what this shape allows").x == (0.45,)
    assert trace(figure, "a larger shape").x == (0.8,)
    assert trace(figure, "a larger shape").y == (0,)
    assert "at least 80" in trace(figure, "a larger shape").text[0]


def test_the_other_mode_is_the_open_point(compared):
    figure = shares_by_layer(compared, mode="propagated", positions="deployed")
    assert trace(figure, "local, positions as deployed").marker.symbol == "circle-open"
    assert trace(figure, "propagated, positions as deployed").marker.symbol == "circle"


def test_thirty_layers_fit_a_first_screen_and_their_labels_do_not_touch(result):
    layers = {layer: fit(layer, [0.1, 0.2, 0.4, 0.6, 0.8]) for layer in range(30)}
    run = replace(result, local=layers, propagated=layers)
    both = PositionsCompared(deployed=run, trained=run)
    figure = shares_by_layer(both, mode="local", positions="deployed", pin=22)
    rows = figure.layout.yaxis.tickvals
    plot = figure.layout.height - 96
    assert figure.layout.height <= 290
    assert min(np.diff(rows)) * plot / 30 >= LABEL
    assert "<b>layer 22</b>" in figure.layout.yaxis.ticktext


def test_error_parts_are_points_that_know_their_token(result):
    figure = error_parts(result.local[3], tokens=TOKENS, left_out=result.is_sink, pin=1)
    own, nothing = trace(figure, "this checkpoint"), trace(figure, "no modulation")
    assert list(own.x) == [-0.2, 0.1, 0.0, 0.05] and list(own.y) == [0.3, 0.2, 0.2, 0.08]
    np.testing.assert_allclose(nothing.y, [0.3, 0.0, 0.4, 0.5], atol=1e-7)
    assert own.customdata[:, 0].tolist() == [1, 2, 3, 4]
    assert "&lt;b&gt;cat" in own.text[0] and "#1" in own.text[0]
    assert figure.data[-1].x == (-0.2,)


def test_the_gate_trade_off_goes_through_its_medians():
    oracle = GateOracle(
        layer=3, tokens=np.arange(3), penalties=(1.0, 0.0), relative_error=np.array([[0.5, 0.4, 0.3], [0.0, 0.1, 0.2]]),
        movement=np.array([[0.1, 0.2, 0.9], [1.0, 2.0, 9.0]]), adapter_error=np.array([0.6, 0.6, 0.7]),
        adapter_movement=np.array([0.3, 0.3, 0.3]), unmodulated_error=np.array([0.8, 0.8, 0.9]), iterations=9,
    )  # fmt: skip
    figure = gate_trade_off(oracle)
    curve = trace(figure, "best gate at each token")
    assert list(curve.x) == [0.2, 2.0] and list(curve.y) == [0.4, 0.1]
    own = trace(figure, "this checkpoint")
    assert (own.x, own.y) == ((0.3,), (0.6,))
    assert figure.layout.shapes[0].y0 == 0.8


@pytest.mark.parametrize("with_kl", [True, False])
def test_ablations_are_medians_in_the_rows_of_their_names(with_kl):
    def row(name, recovered, kl):
        return Ablation(
            name=name, meaning="m", recovered=np.array([-9, recovered, recovered]), relative_error=np.ones(3),
            kl=np.array([9.0, kl, kl]) if with_kl else None,
        )  # fmt: skip

    table = AblationTable(
        layer=3,
        rows=(
            row("as it is", 0.4, 0.05),
            row("mean scalar", 0.3, 0.06),
            row("×0", 0.0, 0.0),
            row("×5", -7.0, 2.0),
        ),
        is_sink=np.array([True, False, False]),
    )
    figure = ablations(table)
    assert list(figure.data[0].x) == [0.4, 0.3, 0.0, -0.5] and list(figure.data[0].y) == [3, 2, 1, 0]
    assert figure.data[0].marker.symbol == ("circle", "circle", "circle", "triangle-left")
    assert figure.layout.yaxis.ticktext == ("as it is", "mean scalar", "×0", "×5")
    assert [line.x0 for line in figure.layout.shapes][:2] == [0.4, 0.0]
    assert len(figure.data) == 1 + with_kl
    if with_kl:
        assert list(figure.data[1].x) == [0.05, 0.06, 1e-5, 2.0]
        assert figure.layout.xaxis2.type == "log"


@pytest.mark.parametrize("value", [0.0, 0.5, np.nan])
def test_equal_and_missing_values_are_drawn_without_a_warning(value):
    flat = np.full(5, value)
    found = Reconstruction(
        tokens=TOKENS, is_sink=np.zeros(5, bool), positions="deployed",
        local={3: fit(3, flat)}, propagated={3: fit(3, flat)},
    )  # fmt: skip
    both = PositionsCompared(deployed=found, trained=found)
    assert shares_by_layer(both, mode="local", positions="deployed").data
