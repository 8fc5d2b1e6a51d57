"""Attribution against brute force, against closed forms, and without a trace in the model."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import specimen

import npt_viz
from npt_viz.analysis.attribution import (
    GRADIENT_COST,
    attribution,
    estimate,
    forwards,
    rows_per_pass,
    token_scores,
)
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.results.attribution import MAX_DELTA, METHODS, Attribution, Quantity, rank_correlation, spearman

GATE_DEMO = Path(__file__).resolve().parents[2] / "checkpoints" / "smollm2-135m-gate-15"
PROMPT = "the cat the dog"
PIN, EOS = 9, 1


@pytest.fixture(scope="module")
def checkpoint(tiny_llama):
    adapters = {
        1: specimen(tiny_llama, "N1", 1, seed=1),
        3: specimen(tiny_llama, "N5", 3, components=2, seed=3),
    }
    # Strong modulation saturates and bends integrated gradients; this is a healthy size.
    with torch.no_grad():
        for adapter in adapters.values():
            for parameter in adapter.parameters():
                parameter.mul_(0.7)
    return Checkpoint.from_adapters(adapters, tiny_llama, "two layers")


def hooks(model) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.hf.modules()
    )


def replaced(ids: list[int], token: int) -> list[int]:
    return [*ids[:token], EOS, *ids[token + 1 :]]


def brute_force(read, ids: list[int]) -> np.ndarray:
    """read(ids) − read(ids with one token replaced), over the whole prompt; the first token is never replaced."""
    return np.array([0.0, *(read(ids) - read(replaced(ids, token)) for token in range(1, len(ids)))])


@pytest.mark.parametrize("mode", ["local", "propagated"])
@pytest.mark.parametrize("target", ["gate", "down"])
def test_ablation_of_a_scalar_is_the_brute_force_loop(tiny_llama, checkpoint, mode, target):
    ids = tiny_llama.tokenizer(PROMPT)["input_ids"]

    def scalar(ids):
        run = npt_viz.inspect(tiny_llama, checkpoint, ids, mode=mode, logits=False)
        return float(run.layers[3].scalars[target][PIN, 1])

    quantity = Quantity(kind="scalar", token=PIN, layer=3, target=target, component=1)
    found = attribution(tiny_llama, checkpoint, PROMPT, quantity, mode=mode)
    expected = brute_force(scalar, ids)
    np.testing.assert_allclose(found.scores, expected, atol=1e-5 * np.abs(expected).max())
    assert found.value == pytest.approx(scalar(ids), rel=1e-4)
    assert np.abs(expected).max() > 1e-3


def test_ablation_of_the_update_norm_is_the_brute_force_loop_without_rope(tiny_llama, checkpoint):
    ids = tiny_llama.tokenizer(PROMPT)["input_ids"]

    def norm(ids):
        run = npt_viz.inspect(tiny_llama, checkpoint, ids, positions="trained", logits=False)
        return float(run.layers[1].update_norms["gate"][PIN])

    quantity = Quantity(kind="update_norm", token=PIN, layer=1)
    found = attribution(tiny_llama, checkpoint, PROMPT, quantity, positions="trained")
    np.testing.assert_allclose(found.scores, brute_force(norm, ids), atol=1e-4)


def test_ablation_of_a_logit_difference_is_the_brute_force_loop(tiny_llama, checkpoint):
    ids = tiny_llama.tokenizer(PROMPT)["input_ids"]

    def difference(model_top):
        def read(ids):
            # Logits differ by what log-probabilities differ.
            run = npt_viz.inspect(tiny_llama, checkpoint, ids, top_k=258)
            p = {row[1]: row[2] for row in getattr(run, model_top).rows(PIN)}
            return float(np.log(p[40]) - np.log(p[71]))

        return read

    for model, table in (("NPT", "npt_top"), ("base", "base_top")):
        quantity = Quantity(kind="logit", token=PIN, token_id=40, against=71, model=model)
        found = attribution(tiny_llama, checkpoint, PROMPT, quantity)
        np.testing.assert_allclose(found.scores, brute_force(difference(table), ids), atol=2e-4)


def test_a_later_token_changes_nothing_and_scores_exactly_zero(tiny_llama, checkpoint):
    quantity = Quantity(kind="scalar", token=PIN, layer=3)
    for method in METHODS:
        found = attribution(
            tiny_llama, checkpoint, PROMPT, quantity, method=method, mode="propagated", steps=8
        )
        assert (found.scores[PIN + 1 :] == 0).all()
        assert (found.scores[0] == 0) == (method != "gradient_x_activation")
        assert (found.scores[1 : PIN + 1] != 0).all()
        longer = attribution(
            tiny_llama, checkpoint, PROMPT + " and more", quantity, method=method, mode="propagated", steps=8
        )
        np.testing.assert_array_equal(longer.scores[: PIN + 1], found.scores[: PIN + 1])


@pytest.mark.parametrize("kind", ["scalar", "update_norm", "logit"])
def test_integrated_gradients_add_up_to_the_change(tiny_llama, checkpoint, kind):
    quantity = Quantity(kind=kind, token=PIN, layer=3, target="up", token_id=40)
    found = attribution(
        tiny_llama, checkpoint, PROMPT, quantity, method="integrated_gradients", mode="propagated", steps=256
    )
    change = found.value - found.baseline_value
    assert found.problem is None and found.relative_delta < MAX_DELTA
    assert float(found.scores.sum()) == pytest.approx(change + found.delta, abs=1e-4 * abs(change))
    assert abs(change) > 1e-3


def test_gradients_pass_through_layers_that_multiply(tiny_llama):
    """S1 multiplies what it reads: autograd refuses where that was overwritten in place."""
    checkpoint = Checkpoint.from_adapters(
        {2: specimen(tiny_llama, "S1-design", components=1)}, tiny_llama, "S1"
    )
    quantity = Quantity(kind="logit", token=PIN, token_id=40)
    found = attribution(tiny_llama, checkpoint, PROMPT, quantity, method="integrated_gradients", steps=256)
    assert found.relative_delta < MAX_DELTA


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_function_gets_its_known_answer(method):
    """f(ids) = Σ_t w_t · e(ids_t): each token's score is w_t · (e(x_t) − e(b_t)), the slope times e(x_t) for G × A."""
    embedding = torch.nn.Embedding(13, 5).requires_grad_(False)
    weights = torch.randn(7, 5)
    ids, baseline = torch.tensor([[3, 1, 4, 1, 5, 9, 2]]), torch.tensor([[3, 12, 12, 12, 12, 12, 12]])
    scores, delta = token_scores(
        lambda ids: (embedding(ids) * weights).sum((1, 2)), embedding, ids, baseline, method=method, steps=4
    )
    difference = embedding(ids[0]) - (0 if method == "gradient_x_activation" else embedding(baseline[0]))
    torch.testing.assert_close(scores, (weights * difference).sum(-1))
    if method == "integrated_gradients":
        assert abs(delta) < 1e-5


def test_scores_do_not_depend_on_how_many_rows_run_side_by_side(tiny_llama, checkpoint, monkeypatch):
    quantity = Quantity(kind="scalar", token=PIN, layer=3)
    wide = attribution(tiny_llama, checkpoint, PROMPT, quantity)
    monkeypatch.setattr("npt_viz.analysis.attribution.PASS_BYTES", 1)
    assert rows_per_pass(tiny_llama, 10, False) == 1
    narrow = attribution(tiny_llama, checkpoint, PROMPT, quantity)
    np.testing.assert_allclose(wide.scores, narrow.scores, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_progress_counts_to_the_estimate(tiny_llama, checkpoint, method):
    seen = []
    quantity = Quantity(kind="scalar", token=PIN, layer=3)
    attribution(
        tiny_llama,
        checkpoint,
        PROMPT,
        quantity,
        method=method,
        steps=20,
        progress=lambda *at: seen.append(at),
    )
    expected = forwards(method, PIN + 1, 20)
    assert seen[-1] == (expected, expected)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    cost = estimate(tiny_llama, checkpoint, PROMPT, quantity, [method], steps=20)
    assert cost.forwards == expected and cost.seconds > 0


def test_the_estimate_of_several_methods_is_their_sum(tiny_llama, checkpoint):
    quantity = Quantity(kind="scalar", token=PIN, layer=3)
    cost = estimate(tiny_llama, checkpoint, PROMPT, quantity, tuple(METHODS), steps=30)
    assert cost.forwards == (PIN + 1 + 3) + (GRADIENT_COST * 30 + 6) + (GRADIENT_COST + 2)


class Stop(BaseException):
    """As Streamlit stops a script: not an Exception."""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ending", [None, Stop, ValueError])
def test_no_hook_is_left(tiny_llama, checkpoint, method, ending):
    before = hooks(tiny_llama)

    def progress(done, total):
        assert hooks(tiny_llama) < before + 3, "only captum's own hook is there between two passes"
        if ending:
            raise ending

    quantity = Quantity(kind="logit", token=PIN, token_id=40)

    def run():
        attribution(tiny_llama, checkpoint, PROMPT, quantity, method=method, steps=4, progress=progress)

    if ending:
        with pytest.raises(ending):
            run()
    else:
        run()
    assert hooks(tiny_llama) == before
    assert tiny_llama.lock.acquire(blocking=False)
    tiny_llama.lock.release()


@pytest.mark.parametrize(
    ("quantity", "prompt", "said"),
    [
        (Quantity(kind="scalar", token=0, layer=3), PROMPT, "pin a later token"),
        (Quantity(kind="scalar", token=0, layer=3), "x", "two tokens or more"),
        (Quantity(kind="scalar", token=99, layer=3), PROMPT, "tokens 0 to 14"),
        (Quantity(kind="scalar", token=3, layer=2), PROMPT, "choose among 1, 3"),
        (Quantity(kind="scalar", token=3, layer=1, target="up"), PROMPT, "it modulates gate"),
        (Quantity(kind="scalar", token=3, layer=3, component=2), PROMPT, "0 to 1"),
        (Quantity(kind="logit", token=3), PROMPT, "give its token_id"),
        (Quantity(kind="logit", token=3, token_id=258), PROMPT, "0 to 257"),
        (Quantity(kind="logit", token=3, token_id=4, against=-1), PROMPT, "0 to 257"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(tiny_llama, checkpoint, quantity, prompt, said):
    with pytest.raises(NptVizError, match=said):
        attribution(tiny_llama, checkpoint, prompt, quantity)


def test_unknown_methods_and_baselines_are_refused(tiny_llama, checkpoint):
    quantity = Quantity(kind="scalar", token=3, layer=3)
    for wrong in ({"method": "lime"}, {"steps": 1}, {"baseline": "mean"}, {"baseline": "pad"}):
        with pytest.raises(NptVizError):
            attribution(tiny_llama, checkpoint, PROMPT, quantity, **wrong)


def test_an_additive_layer_has_no_scalar_but_a_logit(tiny_llama):
    checkpoint = Checkpoint.from_adapters({2: specimen(tiny_llama, "S0")}, tiny_llama, "S0")
    with pytest.raises(NptVizError, match="attribute a logit instead"):
        attribution(tiny_llama, checkpoint, PROMPT, Quantity(kind="scalar", token=3, layer=2))
    found = attribution(tiny_llama, checkpoint, PROMPT, Quantity(kind="logit", token=3, token_id=7))
    assert found.strongest is not None


def test_integrated_gradients_that_miss_the_change_are_refused_with_a_way_out(tiny_llama, checkpoint):
    quantity = Quantity(kind="update_norm", token=PIN, layer=3)
    found = attribution(
        tiny_llama, checkpoint, PROMPT, quantity, method="integrated_gradients", mode="propagated", steps=2
    )
    assert found.relative_delta > MAX_DELTA, "two steps are too few for this to be a test"
    assert "take 8 steps" in found.problem


def test_nothing_to_divide_up_is_said(tiny_llama, checkpoint):
    ids = [5, EOS, EOS, EOS]
    quantity = Quantity(kind="scalar", token=3, layer=3)
    found = attribution(tiny_llama, checkpoint, ids, quantity, method="integrated_gradients", steps=4)
    assert "the same with every token replaced" in found.problem
    assert attribution(tiny_llama, checkpoint, ids, quantity).strongest is None


def test_rank_correlation_is_spearmans_with_ties():
    first, second = np.array([3.0, 1, 4, 1, 5, 9, 2, 6]), np.array([2.0, 7, 1, 8, 2, 8, 1, 8])
    expected = pd.DataFrame({"a": first, "b": second}).corr(method="spearman").loc["a", "b"]
    assert spearman(first, second) == pytest.approx(expected)
    assert spearman(first, -first) == pytest.approx(-1)
    assert np.isnan(spearman(first, np.ones(8)))


def test_methods_are_compared_over_the_tokens_that_can_have_a_score():
    def scored(scores, method):
        return Attribution(
            quantity=Quantity(kind="scalar", token=3, layer=1),
            name="s",
            method=method,
            mode="local",
            positions="deployed",
            tokens=tuple("abcdef"),
            scores=np.array(scores),
            baseline="·",
            value=1.0,
            baseline_value=0.0,
            delta=float("nan"),
            steps=0,
            forwards=1,
            seconds=0.0,
        )

    first, second = (
        scored([9.0, 1, 2, 3, 0, 0], "ablation"),
        scored([0.0, 5, 6, 7, 0, 0], "integrated_gradients"),
    )
    assert rank_correlation(first, second) == pytest.approx(1)
    assert first.strongest == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scalar", "update_norm", "logit"])
def test_integrated_gradients_converge_on_smollm2(smollm2, kind):
    """Random tiny models hide the attention sink; the real one has it."""
    checkpoint = npt_viz.open_checkpoint(GATE_DEMO, smollm2)
    prompt = "The capital of France is Paris. The capital of Italy is"
    pin = len(smollm2.tokenizer(prompt)["input_ids"]) - 1
    rome = smollm2.tokenizer(" Rome")["input_ids"][0]
    quantity = Quantity(kind=kind, token=pin, layer=15, token_id=rome, model="base")
    found = attribution(smollm2, checkpoint, prompt, quantity, method="integrated_gradients")
    assert found.problem is None
    change = found.value - found.baseline_value
    assert float(found.scores.sum()) == pytest.approx(change + found.delta, abs=1e-3 * abs(change))
