"""The gate oracle against brute force, a slow generic solver, and the gate's own arithmetic."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import specimen, tiny_model

from npt_viz.adapter import Semantics, random_adapter
from npt_viz.analysis.gate_oracle import SILU_MINIMUM, BoundedLeastSquares, gate_oracle, nearest_gate
from npt_viz.capture.layer_trace import traces
from npt_viz.errors import NptVizError
from npt_viz.texts import bundled_texts

PROMPT = [0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66]


def problem(n_tokens, d_model, d_ffn, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return (
        normal(d_model, d_ffn),
        normal(n_tokens, d_ffn),
        normal(n_tokens, d_ffn),
        3 * normal(n_tokens, d_model),
    )


def best_of_all_active_sets(weight, up, target):
    """σ of one token: every choice of units at the bound, the others free; the best that is feasible."""
    matrix = weight * up
    best = (np.inf, None)
    for at_bound in product((False, True), repeat=len(up)):
        fixed = torch.tensor(at_bound)
        sigma = torch.full_like(up, SILU_MINIMUM)
        if (~fixed).any():
            rest = target - matrix[:, fixed] @ sigma[fixed]
            sigma[~fixed] = torch.linalg.lstsq(matrix[:, ~fixed], rest[:, None]).solution[:, 0]
        if (sigma >= SILU_MINIMUM - 1e-9).all():
            best = min(best, ((matrix @ sigma - target).norm().item(), sigma), key=lambda pair: pair[0])
    return best


def test_where_the_target_is_out_of_reach_it_finds_the_best_of_all_active_sets():
    """Six outputs, five units: least squares with some units at the minimum of silu."""
    weight, gate, up, target = problem(7, 6, 5)
    solver = BoundedLeastSquares(weight, gate, up, target)
    solver.descend(0.0, 2000)
    n_at_bound = 0
    for token in range(7):
        error, sigma = best_of_all_active_sets(weight, up[token], target[token])
        assert error > 0.1
        reached = (weight @ solver.m[token] - target[token]).norm().item()
        assert error <= reached + 1e-9 and reached == pytest.approx(error, rel=1e-6)
        torch.testing.assert_close(solver.m[token], up[token] * sigma, atol=0.01, rtol=0)
        n_at_bound += int((sigma < SILU_MINIMUM + 1e-9).sum())
    assert n_at_bound > 5


def accelerated_projected_gradient(weight, gate, up, target, penalty, steps):
    """FISTA in σ, one token at a time, with the step of its own Hessian: slow, generic, and another algorithm."""
    found = []
    for g, u, t in zip(gate, up, target, strict=True):
        matrix, start = weight * u, F.silu(g)
        price = penalty * t.square().sum() / start.square().sum()
        step = 1 / (torch.linalg.matrix_norm(matrix, 2) ** 2 + price)
        x = y = start
        momentum = 1.0
        for _ in range(steps):
            gradient = matrix.T @ (matrix @ y - t) + price * (y - start)
            new = (y - step * gradient).clamp_min(SILU_MINIMUM)
            longer = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            if torch.dot(y - new, new - x) > 0:
                longer, momentum = 1.0, 1.0
            y, x, momentum = new + (momentum - 1) / longer * (new - x), new, longer
        found.append(u * x)
    return torch.stack(found)


@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_at_a_price_it_agrees_with_a_slow_generic_solver(penalty):
    weight, gate, up, target = problem(3, 7, 11, seed=3)
    solver = BoundedLeastSquares(weight, gate, up, target)
    solver.descend(penalty, 1500)
    slow = accelerated_projected_gradient(weight, gate, up, target, penalty, 4000)
    torch.testing.assert_close(solver.m, slow, atol=1e-6, rtol=1e-6)


def test_the_inverse_of_silu_takes_the_nearer_branch():
    gate = torch.linspace(-9, 9, 181, dtype=torch.float64)
    found = nearest_gate(F.silu(gate), gate)
    torch.testing.assert_close(F.silu(found), F.silu(gate), atol=1e-9, rtol=0)
    assert ((found - gate).abs() < 1e-4).all()
    # Below 0 there are two: from −1.2 the right one is nearer to silu(−4), from −4.1 the left one.
    both = F.silu(torch.full((2,), -4.0, dtype=torch.float64))
    left, right = nearest_gate(both, torch.tensor([-4.1, -1.2], dtype=torch.float64)).tolist()
    assert left == pytest.approx(-4) and -1.27 < right < 0
    assert F.silu(torch.tensor(right)).item() == pytest.approx(both[0].item(), rel=1e-6)


@pytest.mark.parametrize("variant", ["N1", "N2", "N5"])
def test_the_gate_it_finds_gives_the_error_it_reports_when_it_is_run(variant):
    model = tiny_model(dtype=torch.float64)
    adapter = specimen(model, variant)
    seen = traces(model, {2: adapter}, PROMPT).local[2]
    found = gate_oracle(
        model, adapter, seen, penalties=(1.0, 1e-2, 1e-6), iterations=200, last_iterations=1500
    )
    parts = model.parts(2)
    gate, up = parts.gate(seen.mlp_input), parts.up(seen.mlp_input)
    nothing = (parts.down(F.silu(gate) * up) - seen.target).norm(dim=-1) / seen.target.norm(dim=-1)
    np.testing.assert_allclose(found.unmodulated_error, nothing, rtol=1e-5)
    # 31 units for 24 outputs, each bounded: a price of nearly 0 leaves what the bound forbids.
    for i, token in enumerate(found.tokens[:2]):
        best = accelerated_projected_gradient(
            parts.down.weight,
            gate[token : token + 1],
            up[token : token + 1],
            seen.target[token : token + 1],
            1e-6,
            2000,
        )[0]
        reached = (parts.down.weight @ best - seen.target[token]).norm() / seen.target[token].norm()
        assert found.relative_error[-1, i] == pytest.approx(reached.item(), rel=0.02, abs=1e-3)
    assert (np.diff(found.relative_error, axis=0) <= 1e-6).all()
    assert (np.diff(np.median(found.movement, axis=1)) > 0).all()
    change = adapter.change("gate", seen.attention, seen.mlp_input, gate)
    np.testing.assert_allclose(found.adapter_movement, change.norm(dim=-1) / gate.norm(dim=-1), rtol=1e-5)


def test_many_tokens_are_sampled_evenly_and_said():
    model = tiny_model()
    adapter = specimen(model, "N1")
    both = traces(model, {2: adapter}, list(range(3, 80)))
    found = gate_oracle(model, adapter, both.local[2], max_tokens=7, penalties=(1.0,), last_iterations=5)
    assert len(found.tokens) == 7 and found.tokens[0] == 0 and found.tokens[-1] == 76
    assert set(np.diff(found.tokens)) <= {12, 13}
    assert found.notes == ("7 of 77 tokens, evenly spaced",)
    counted = torch.arange(77) > 1
    found = gate_oracle(
        model, adapter, both.local[2], counted=counted, max_tokens=80, penalties=(1.0,), last_iterations=5
    )
    assert found.tokens.tolist() == list(range(2, 77)) and found.notes == ("attention sinks left out: 2",)


def test_no_token_to_solve_for_is_a_sentence():
    model = tiny_model()
    adapter = specimen(model, "N1")
    seen = traces(model, {2: adapter}, [5, 6]).local[2]
    with pytest.raises(NptVizError, match="no token is left"):
        gate_oracle(model, adapter, seen, counted=torch.zeros(2, dtype=torch.bool))


@pytest.mark.slow
@pytest.mark.parametrize("layer", [5, 15])
def test_on_smollm2_the_gate_alone_reaches_a_thousandth_at_every_token(smollm2, layer):
    """The gate moves by no more than a few times its norm: the 8 to 20 times of a solver in m alone are not needed."""
    adapter = random_adapter(
        layer, Semantics(), ("gate",), d_model=smollm2.d_model, d_ffn=smollm2.d_ffn, rank=4, std=0.01
    )
    ids = smollm2.tokenizer("".join(bundled_texts("heldout")[:2]))["input_ids"][:256]
    both = traces(smollm2, {layer: adapter}, ids)
    found = gate_oracle(smollm2, adapter, both.local[layer], counted=~both.is_sink)
    assert len(found.tokens) >= 250
    assert found.relative_error[-1].max() < 1e-3
    assert np.median(found.movement[-1]) < 3
