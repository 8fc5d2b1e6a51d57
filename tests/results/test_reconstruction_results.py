"""What the reconstruction results say, by hand."""

import numpy as np
import pytest

from npt_viz.results.reconstruction import (
    Ablation,
    AblationTable,
    ClassFloor,
    GateOracle,
    LayerFit,
    PositionsCompared,
    Reconstruction,
)
from npt_viz.results.sentences import Basis
from npt_viz.results.sentences.reconstruction import class_floor, positions, reconstruction
from npt_viz.results.words import percent


def layer_fit(recovered, error=None, layer=15):
    recovered = np.array(recovered, float)
    error = np.linspace(0.1, 0.9, len(recovered)) if error is None else np.array(error, float)
    columns = (
        "cosine",
        "magnitude_ratio",
        "error_along",
        "error_beside",
        "unmodulated_error",
        "unmodulated_along",
        "exact_error",
    )
    return LayerFit(
        layer=layer,
        variant="N1",
        reconstructs="a + MLP(z_C)",
        recovered=recovered,
        relative_error=error,
        **{name: np.zeros(len(recovered)) for name in columns},
    )


def result(recovered, is_sink=None, error=None):
    fit = layer_fit(recovered, error)
    return Reconstruction(
        tokens=tuple(map(str, range(len(recovered)))),
        is_sink=np.zeros(len(recovered), bool) if is_sink is None else np.array(is_sink),
        positions="deployed",
        local={15: fit},
        propagated={15: fit},
    )


def floor(targets=("gate",), recovered=0.40, adapter=0.42, train=0.5):
    return ClassFloor(
        layer=15, targets=targets, rank=64, components=1, steps=400, seed=0, n_train=5000, n_heldout=800,
        recovered=recovered, recovered_train=train, adapter_recovered=adapter, positions="deployed",
    )  # fmt: skip


def test_medians_leave_attention_sinks_and_missing_numbers_out():
    found = result([-1000, 0.1, 0.3, np.nan, 0.7], [True, False, False, False, False])
    assert found.median("recovered", 15) == pytest.approx(0.3)
    assert found.n_counted == 4
    assert result([0.2, 0.4], [True, True]).median("recovered", 15) == pytest.approx(0.3)


def test_the_worst_tokens_come_worst_first_without_sinks():
    found = result([0] * 5, [True, False, False, False, False], error=[9, 0.1, 0.5, np.nan, 0.3])
    assert found.worst(15) == [2, 4, 1]
    assert found.worst(15, n=1) == [2]


def test_a_fresh_fit_that_does_better_says_that_training_can_help():
    assert "more training can help" in str(class_floor(floor(recovered=0.50, adapter=0.42)))
    assert "more training" not in str(class_floor(floor(recovered=0.43, adapter=0.42)))
    assert "this checkpoint" not in str(class_floor(floor(recovered=0.43, adapter=np.nan)))


def test_a_fit_that_diverged_says_nothing_about_the_shape():
    """−92 % against 76 % was "as good as its shape allows"."""
    diverged = floor(recovered=-0.92, adapter=0.76, train=-0.9)
    assert not diverged.is_good
    assert str(class_floor(diverged)).endswith(
        "The fit is no good, so it says nothing about what the shape allows."
    )
    said = reconstruction(result([0.7] * 9), 15, floors=[diverged])
    assert "is no good (−92" in str(said) and "at least" not in str(said)


def test_the_class_allows_what_the_checkpoint_itself_reaches():
    assert floor(recovered=0.40, adapter=0.42).allows == 0.42
    assert floor(recovered=0.50, adapter=0.42).allows == 0.50
    assert floor(recovered=0.50, adapter=np.nan).allows == 0.50


@pytest.mark.parametrize(
    ("deployed", "trained", "n", "said"),
    [
        (0.50, 0.95, 101, "was trained on attention without positions"),
        (0.025, 0.586, 101, "was trained on attention without positions"),
        (0.246, 0.638, 101, "was trained on attention without positions"),
        (0.40, 0.42, 101, "no sign that it was trained without positions"),
        (0.15, 0.25, 101, "no sign that it was trained without positions"),
        (0.05, 0.28, 18, "not enough tokens to tell"),
        (0.50, 0.95, 8, "not enough tokens to tell"),
        (0.40, 0.42, 8, "not enough tokens to tell"),
    ],
)
def test_positions_are_convicted_acquitted_or_left_open(deployed, trained, n, said):
    noise = np.random.default_rng(n).normal(0, 0.1, (2, n))
    compared = PositionsCompared(deployed=result(deployed + noise[0]), trained=result(trained + noise[1]))
    sentence = str(positions(compared, 15, Basis(is_sink=np.zeros(n, bool))))
    assert said in sentence and f"{n} tokens" in sentence


def test_percent_is_readable():
    assert [percent(x) for x in (0.414, -0.12, -0.001, np.nan)] == [
        "41\N{NO-BREAK SPACE}%", "−12\N{NO-BREAK SPACE}%", "0\N{NO-BREAK SPACE}%", "–",
    ]  # fmt: skip


def test_the_oracle_turns_errors_into_shares():
    oracle = GateOracle(
        layer=15, tokens=np.array([1, 3]), penalties=(1.0, 0.0), relative_error=np.array([[0.4, 0.2], [0.0, 0.0]]),
        movement=np.array([[0.5, 0.5], [2.0, 1.0]]), adapter_error=np.array([0.7, 0.7]),
        adapter_movement=np.array([0.1, 0.1]), unmodulated_error=np.array([0.8, 0.0]), iterations=9,
    )  # fmt: skip
    np.testing.assert_allclose(oracle.recovered, [[0.75, np.nan], [1, np.nan]])


def test_an_ablation_without_logits_has_no_kl():
    row = Ablation(name="as it is", meaning="", recovered=np.ones(3), relative_error=np.ones(3))
    table = AblationTable(layer=15, rows=(row,), is_sink=np.array([True, False, False]))
    assert np.isnan(table.median("kl", row))


def test_a_result_that_does_not_fit_its_tokens_is_refused():
    with pytest.raises(ValueError, match="does not fit 2 tokens"):
        Reconstruction(
            tokens=("a", "b"),
            is_sink=np.zeros(2, bool),
            positions="deployed",
            local={15: layer_fit([0, 0, 0])},
            propagated={},
        )
