"""Losses on v_a, v_b and the scalar against their published formulas on explicit vectors, and gradcheck."""

import numpy as np
import pytest
import torch

from npt_viz.errors import NptVizError
from npt_viz.training.factored import Vectors
from npt_viz.training.losses import vectors

N_TOKENS, COMPONENTS, RANK, WIDTH, FFN = 13, 3, 5, 11, 17


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture
def case():
    """v_a and v_b factored and explicit (numpy, (token, component, dim)), h, a, z, and W a, all float64."""
    p, basis_a, basis_b = (
        normal(N_TOKENS, COMPONENTS, RANK),
        normal(COMPONENTS, RANK, WIDTH),
        normal(COMPONENTS, RANK, FFN),
    )
    h, a, z, through = (
        normal(N_TOKENS, WIDTH),
        normal(N_TOKENS, WIDTH),
        normal(N_TOKENS, WIDTH),
        normal(N_TOKENS, FFN),
    )
    return {
        "v_a": Vectors(p, basis_a),
        "v_b": Vectors(p, basis_b),
        "dense_a": np.stack(
            [[p[t, j].numpy() @ basis_a[j].numpy() for j in range(COMPONENTS)] for t in range(N_TOKENS)]
        ),
        "dense_b": np.stack(
            [[p[t, j].numpy() @ basis_b[j].numpy() for j in range(COMPONENTS)] for t in range(N_TOKENS)]
        ),
        "h": h,
        "a": a,
        "z": z,
        "through": through,
    }


def close(value, expected):
    np.testing.assert_allclose(value.item(), expected, rtol=1e-11)


def cosines(v, x):
    """cos(v[t, j], x[t])"""
    return np.array(
        [
            [u @ y / np.linalg.norm(u) / np.linalg.norm(y) for u in us]
            for us, y in zip(v, x.numpy(), strict=True)
        ]
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_attention_encoding(case):
    v, a = case["dense_a"], case["a"].numpy()
    mse = ((v - a[:, None]) ** 2).mean()
    expected = mse / np.sqrt((a**2).mean()) + 0.5 * (1 - cosines(v, case["a"]).mean())
    close(vectors.attention_encoding(case["v_a"], case["a"]), expected)


def test_attention_encoding_is_zero_where_v_a_is_the_attention_output():
    a = normal(N_TOKENS, WIDTH)
    same = Vectors(a[:, None], torch.eye(WIDTH, dtype=torch.float64)[None])
    assert vectors.attention_encoding(same, a).item() == pytest.approx(0, abs=1e-12)


def test_regularisation_is_the_mean_of_the_squares(case):
    close(
        vectors.regularisation(case["v_a"], case["v_b"]),
        (case["dense_a"] ** 2).mean() + (case["dense_b"] ** 2).mean(),
    )


def test_update_norm_is_the_squared_frobenius_norm_of_the_dense_weight_change(case):
    dense = np.einsum("tki,tko->toi", case["dense_a"], case["dense_b"])
    close(vectors.update_norm(case["v_a"], case["v_b"]), (dense**2).sum((1, 2)).mean())


def test_update_norm_does_not_depend_on_the_gauge_and_regularisation_does(case):
    v_a, v_b = case["v_a"], case["v_b"]
    larger, smaller = Vectors(v_a.coefficients, 4 * v_a.basis), Vectors(v_b.coefficients, v_b.basis / 4)
    close(vectors.update_norm(larger, smaller), vectors.update_norm(v_a, v_b).item())
    assert vectors.regularisation(larger, smaller) > 2 * vectors.regularisation(v_a, v_b)


def test_strength(case):
    scalar = np.einsum("tki,ti->tk", case["dense_a"], case["z"].numpy())
    change = np.einsum("tk,tko->to", scalar, case["dense_b"])
    expected = ((change - case["through"].numpy()) ** 2).mean()
    close(vectors.strength(torch.from_numpy(change), case["through"]), expected)


def test_guidance_as_written(case):
    v, h, a = case["dense_a"], case["h"].numpy(), case["a"].numpy()
    scalar = np.einsum("tki,ti->tk", v, h)
    importance = np.linalg.norm(a, axis=1) / np.linalg.norm(h, axis=1)
    mse = ((sigmoid(scalar) - sigmoid(importance)[:, None]) ** 2).mean()
    variance = np.mean([np.var(scalar[:, j], ddof=1) for j in range(COMPONENTS)])
    close(vectors.guidance_as_written(case["v_a"], case["h"], case["a"]), mse - 0.1 * variance)


def test_guidance_looks_at_z_and_stops_at_its_floor(case):
    v, z, a = 0.01 * case["dense_a"], case["z"].numpy(), case["a"].numpy()
    small = Vectors(0.01 * case["v_a"].coefficients, case["v_a"].basis)
    scalar = np.einsum("tki,ti->tk", v, z)
    importance = np.linalg.norm(a, axis=1) / np.linalg.norm(z, axis=1)
    mse = ((sigmoid(scalar) - sigmoid(importance)[:, None]) ** 2).mean()
    variances = np.array([np.var(scalar[:, j], ddof=1) for j in range(COMPONENTS)])
    assert variances.max() < vectors.VARIANCE_FLOOR
    hinge = 0.1 * (vectors.VARIANCE_FLOOR - variances).mean()
    close(vectors.guidance(small, case["z"], case["a"]), mse + hinge)
    assert np.var(100 * scalar, axis=0).min() > 1
    close(
        vectors.guidance(case["v_a"], case["z"], case["a"], floor=1.0),
        vectors.guidance(case["v_a"], case["z"], case["a"], floor=0.0).item(),
    )


def test_guidance_as_written_falls_for_ever_and_corrected_does_not(case):
    def grown(c):
        return Vectors(c * case["v_a"].coefficients, case["v_a"].basis)

    as_written = [vectors.guidance_as_written(grown(c), case["h"], case["a"]).item() for c in (1, 1e2, 1e4)]
    corrected = [vectors.guidance(grown(c), case["z"], case["a"]).item() for c in (1, 1e2, 1e4)]
    assert as_written[2] < 1e3 * as_written[1] < 0 and min(corrected) >= 0


def test_bottleneck(case):
    v = case["dense_a"]
    expected = 0.01 * np.abs(cosines(v, case["h"])).mean() - np.abs(cosines(v, case["a"])).mean()
    close(vectors.bottleneck(case["v_a"], case["h"], case["a"]), expected)


def test_consistency(case):
    v = case["dense_b"]
    spread = ((v - v.mean(axis=0, keepdims=True)) ** 2).mean()
    close(vectors.consistency(case["v_b"], case["through"]), spread + 1 - cosines(v, case["through"]).mean())


def test_orthogonality_is_the_mean_square_of_the_projections(case):
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, 4)))[0]
    expected = np.mean((case["dense_a"] @ directions) ** 2)
    close(vectors.orthogonality(case["v_a"], torch.from_numpy(directions)), expected)


def test_orthogonality_as_written_says_why_it_cannot_run(case):
    with pytest.raises(NptVizError, match=r"as written cannot run: svd_lowrank returns V as \(11, 10\)"):
        vectors.orthogonality_as_written(case["v_a"], case["h"])


def test_orthogonality_as_written_runs_in_the_one_width_it_fits():
    v_a, h = Vectors(normal(N_TOKENS, 1, RANK), normal(1, RANK, 10)), normal(N_TOKENS, 10)
    # With q = d_model V is a full rotation, and so is V.T: the projections are all of v_a.
    dense = (v_a.coefficients[:, 0] @ v_a.basis[0]).numpy()
    np.testing.assert_allclose(vectors.orthogonality_as_written(v_a, h).item(), np.mean(dense**2), rtol=1e-9)


LOSSES = {
    "strength": lambda v_a, v_b, c: vectors.strength(
        torch.einsum("tk,tkr,kro->to", v_a.dot(c["z"]), v_b.coefficients, v_b.basis), c["through"]
    ),
    "attention_encoding": lambda v_a, v_b, c: vectors.attention_encoding(v_a, c["a"]),
    "regularisation": lambda v_a, v_b, c: vectors.regularisation(v_a, v_b),
    "update_norm": lambda v_a, v_b, c: vectors.update_norm(v_a, v_b),
    "guidance": lambda v_a, v_b, c: vectors.guidance(v_a, c["z"], c["a"], floor=1e3),
    "guidance as written": lambda v_a, v_b, c: vectors.guidance_as_written(v_a, c["h"], c["a"]),
    "bottleneck": lambda v_a, v_b, c: vectors.bottleneck(v_a, c["h"], c["a"]),
    "consistency": lambda v_a, v_b, c: vectors.consistency(v_b, c["through"]),
    "orthogonality": lambda v_a, v_b, c: vectors.orthogonality(v_a, c["h"].T),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name, case):
    few = {key: case[key][:4] for key in ("h", "a", "z", "through")}
    inputs = [
        t.detach().requires_grad_(True)
        for t in (case["v_a"].coefficients[:4, :2], case["v_a"].basis[:2], case["v_b"].basis[:2])
    ]

    def loss(p, basis_a, basis_b):
        return LOSSES[name](Vectors(p, basis_a), Vectors(p, basis_b), few)

    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("name", LOSSES)
def test_a_zero_v_b_gives_finite_gradients(name, case):
    """Training starts with W_b_up = 0; a root of zero would make the first gradient NaN."""
    p, basis_a = case["v_a"].coefficients, case["v_a"].basis.clone().requires_grad_(True)
    basis_b = torch.zeros_like(case["v_b"].basis).requires_grad_(True)
    LOSSES[name](Vectors(p, basis_a), Vectors(p, basis_b), case).backward()
    for basis in (basis_a, basis_b):
        assert basis.grad is None or basis.grad.isfinite().all()
