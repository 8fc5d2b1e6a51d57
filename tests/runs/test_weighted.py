"""Weighted shares of published runs against the published formula, evaluated literally here."""

import json

import numpy as np
import pytest

from npt_viz.runs import read_run

WEIGHTS = {"direct": 10.0, "attention_encoding": 5.0, "fidelity": 1.0, "regularisation": 0.01}
LOGGED = {
    "attention_encoding": "attention_encoding",
    "regularisation": "regularization",
    "direct": "direct_mlp",
}


def stage_weights(step, S, w):
    """docs/mathematics.md §10 ("Composite"), literally."""
    if step < S:
        return [0.1, 0.8, 0.1, 0.01]
    if step < 3 * S:
        p = (step - S) / (2 * S)
        return [0.1 + 0.4 * p, 0.8 - 0.5 * p, 0.1 + 0.2 * p, 0.01]
    return [w["direct"], 0.2 * w["attention_encoding"], w["fidelity"], w["regularisation"]]


def log(folder, steps, S, weights=WEIGHTS, config=None, of=stage_weights, total=True):
    random = np.random.default_rng(0)
    rows = []
    for step in steps:
        raw = dict(zip(WEIGHTS, random.uniform(0.1, 1, 4).tolist(), strict=True))
        row = {"step": step} | {f"{LOGGED.get(t, t)}_loss": value for t, value in raw.items()}
        if total:
            row["total_loss"] = float(np.dot(of(step, S, weights), list(raw.values())))
        rows.append(row)
    (folder / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return rows


def test_stages_of_the_config_give_the_logged_total_back(tmp_path):
    weights = WEIGHTS | {"direct": 4.0, "regularisation": 0.5}
    config = {"direct_mlp_weight": 4.0, "lambda_reg": 0.5, "stage1_steps": 7}
    rows = log(tmp_path, range(1, 40), 7, weights, config)
    run = read_run(tmp_path)
    curves = run.layers[None]
    for i, row in enumerate(rows):
        expected = stage_weights(row["step"], 7, weights)
        found = [curves.columns[f"weight/{term}"][i] for term in WEIGHTS]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    parts = sum(curves.columns[f"weighted/{term}"] for term in WEIGHTS)
    np.testing.assert_allclose(parts, curves.columns["total"], rtol=1e-12)
    np.testing.assert_allclose(sum(curves.columns[f"share/{term}"] for term in WEIGHTS), 1.0)
    assert run.marks == ((7, "stage 2"), (14, "2S"), (21, "stage 3"))
    note = next(n for n in run.notes if "reconstructed" in n)
    assert "direct 4, " in note and "fidelity 1 (default)" in note and "S = 7" in note
    assert "their sum is the logged total" in note


def test_constant_weights_are_told_from_stages_by_the_total(tmp_path):
    log(
        tmp_path,
        range(1, 40),
        7,
        config={"direct_mlp_weight": 10.0, "stage1_steps": 7},
        of=lambda *_: list(WEIGHTS.values()),
    )
    run = read_run(tmp_path)
    assert run.layers[None].columns["weight/direct"].tolist() == [10.0] * 39
    assert run.marks == () and any("constant: their sum is the logged total" in note for note in run.notes)


def test_without_a_config_the_published_defaults_are_taken_where_they_give_the_total(tmp_path):
    log(tmp_path, range(500, 4000, 100), 1000)
    run = read_run(tmp_path)
    assert any("the published default weights" in note for note in run.notes)
    assert run.marks == ((1000, "stage 2"), (2000, "2S"), (3000, "stage 3"))


def test_without_a_config_nothing_is_made_up(tmp_path):
    log(tmp_path, range(1, 40), 7, WEIGHTS | {"direct": 3.0}, of=lambda *_: [3.0, 2.0, 1.0, 1.0])
    run = read_run(tmp_path)
    assert not any(name.startswith(("weight", "share")) for name in run.columns)
    assert not any("reconstructed" in note for note in run.notes)


def test_weights_that_do_not_give_the_total_say_so(tmp_path):
    log(tmp_path, range(1, 40), 7, config={"direct_mlp_weight": 2.0, "fidelity_weight": 9.0})
    note = next(n for n in read_run(tmp_path).notes if "reconstructed" in n)
    assert "their sum is not the logged total (median deviation" in note


def test_each_layer_of_several_weighs_as_the_config_says(tmp_path):
    config = {
        "train_layers": "3,8",
        "layer_weights": "linear",
        "direct_mlp_weight": 10.0,
        "lambda_reg": 0.5,
        "fidelity_weight": 2.0,
        "curriculum_stages": "teacher:5,mixed:10:0.5,student:100",
    }
    rows = []
    for step in range(1, 30):
        d3, d8, r3, r8, fidelity = 0.3 / step, 0.8 / step, 0.1, 0.2, 0.4
        total = 1.0 * (10 * d3 + 0.5 * r3) + 0.5 * (10 * d8 + 0.5 * r8) + 2 * fidelity
        nested = {"layer_3_direct_mlp": d3, "layer_8_direct_mlp": d8, "layer_3_reg": r3, "layer_8_reg": r8}
        rows.append({"step": step, "total_loss": total, "fidelity_loss": fidelity, "layer_losses": nested})
    (tmp_path / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "config.json").write_text(json.dumps(config))
    run = read_run(tmp_path)
    assert run.layers[8].columns["weighted/direct"][0] == pytest.approx(0.5 * 10 * 0.8)
    assert run.layers[8].columns["share/direct"][0] == pytest.approx(4 / (4 + 0.05))
    assert any("their sum is the logged total (median deviation 0.0%)" in note for note in run.notes)
    assert run.marks == ((5, "mixed 0.5"), (15, "student"))
