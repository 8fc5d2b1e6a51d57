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
    assert run.marks == ((7, "stage 2"), (21, "stage 3"))
    note = next(n for n in run.notes if "reconstructed" in n)
    assert "direct 4, " in note and "fidelity 1 (default)" in note and "S = 7" in note
    assert "Their sum is the logged total (95 % of the steps within 0.00%)" in note


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
    assert run.marks == () and any("constant. Their sum is the logged total" in note for note in run.notes)


def test_without_a_config_the_published_defaults_are_taken_where_they_give_the_total(tmp_path):
    log(tmp_path, range(500, 4000, 100), 1000)
    run = read_run(tmp_path)
    assert any("the published composite weights" in note for note in run.notes)
    assert run.marks == ((1000, "stage 2"), (3000, "stage 3"))


def shown(run):
    """The weights that a run shows, of its first layer."""
    curves = next(iter(run.layers.values()))
    return {term: curves.columns[f"weight/{term}"] for term in curves.parts("weight")}


def test_constant_weights_that_nothing_names_are_found_from_the_log(tmp_path):
    given = dict(zip(WEIGHTS, [3.25, 2.0, 1.0, 0.03], strict=True))
    log(tmp_path, range(1, 40), 7, of=lambda *_: list(given.values()))
    run = read_run(tmp_path)
    for term, weight in given.items():
        np.testing.assert_allclose(shown(run)[term], weight, rtol=1e-4)
    assert any("found from the log itself (direct 3.25, " in note for note in run.notes)


def wandering(step, S, w):
    """Weights that no reading knows: they go on changing."""
    return [3.0 + np.sin(step), 2.0, 1.0, 0.01 * step]


def test_without_a_sum_that_is_the_total_nothing_is_made_up(tmp_path):
    log(tmp_path, range(1, 40), 7, of=wandering)
    run = read_run(tmp_path)
    assert not any(name.startswith(("weight", "share")) for name in run.columns)
    assert any(note.startswith("Losses are shown unweighted: no known weights add up") for note in run.notes)


def test_weights_of_a_config_that_do_not_give_the_total_are_not_shown(tmp_path):
    config = {"direct_mlp_weight": 2.0, "fidelity_weight": 9.0, "stage1_steps": 7}
    log(tmp_path, range(1, 40), 7, config=config, of=wandering)
    run = read_run(tmp_path)
    assert not shown(run) and run.marks == ()
    assert any("the log leaves out a loss or the weights were others" in note for note in run.notes)


def test_without_a_total_losses_are_shown_unweighted(tmp_path):
    log(tmp_path, range(1, 40), 7, total=False, config={"direct_mlp_weight": 2.0})
    run = read_run(tmp_path)
    assert not shown(run) and any("no total is logged" in note for note in run.notes)


@pytest.mark.parametrize(("direct", "fidelity", "reg"), [(1.0, 0.1, 0.01), (10.0, 1.0, 0.01)])
def test_weights_of_the_public_trainers_are_known_without_a_config_that_has_them(
    tmp_path, direct, fidelity, reg
):
    """config.json of a public run repeats lambda_reg and nothing else of the weights; values are of float32."""
    random = np.random.default_rng(3)
    rows = []
    for step in range(10, 200, 10):
        raw = random.uniform(0.1, 1, 3).astype(np.float32)
        total = np.float32(direct) * raw[0] + np.float32(fidelity) * raw[1] + np.float32(reg) * raw[2]
        names = ("direct_mlp_loss", "fidelity_loss", "regularization_loss", "total_loss")
        rows.append({"step": step} | dict(zip(names, map(float, [*raw, total]), strict=True)))
    (tmp_path / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "config.json").write_text(json.dumps({"lambda_reg": reg, "np_rank": 64, "batch_size": 2}))
    run = read_run(tmp_path)
    assert {term: values[0] for term, values in shown(run).items()} == {
        "direct": direct,
        "fidelity": fidelity,
        "regularisation": reg,
    }
    assert run.marks == () and any("Their sum is the logged total" in note for note in run.notes)


@pytest.mark.parametrize("S", [9, 10, 8])
def test_the_start_of_the_stages_is_found_between_the_lines_that_name_them(tmp_path, S):
    """Logged every 4 steps, so the log says 12 whatever S in 9 … 12 is; the total tells which."""
    rows = log(tmp_path, range(4, 60, 4), S)
    for row in rows:
        row["stage"] = 1 if row["step"] < S else 2
    (tmp_path / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = read_run(tmp_path)
    assert run.marks == ((8 if S == 8 else 12, "stage 2"),), "the line is where the log changes"
    assert any(f"in three stages (S = {S})" in note for note in run.notes)
    expected = [stage_weights(row["step"], S, WEIGHTS)[0] for row in rows]
    np.testing.assert_allclose(shown(run)["direct"], expected, rtol=1e-12)


def several_layers(folder, weights, config, state=None):
    """A log of layers 3 and 8 as the multi-layer trainer writes it, with a state beside it."""
    import torch

    random = np.random.default_rng(5)
    rows = []
    for step in range(1, 30):
        losses = {layer: random.uniform(0.1, 1, 2) for layer in weights}
        fidelity = random.uniform()
        total = sum(w * (10 * losses[i][0] + 0.5 * losses[i][1]) for i, w in weights.items()) + fidelity
        nested = {
            f"layer_{i}_{name}": x
            for i, pair in losses.items()
            for name, x in zip(("direct_mlp", "reg"), pair, strict=True)
        }
        rows.append({"step": step, "total_loss": total, "fidelity_loss": fidelity, "layer_losses": nested})
    (folder / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text(json.dumps(config))
    if state is not None:
        final = folder / "checkpoints" / "final"
        final.mkdir(parents=True)
        torch.save(state, final / "multi_layer_state.pt")


def test_layer_weights_are_those_of_the_state_of_a_checkpoint(tmp_path):
    schedule = [
        {"name": "teacher", "until_step": 5, "mixing_ratio": 0.0},
        {"name": "mixed", "until_step": 15, "mixing_ratio": 0.5},
        {"name": "student", "until_step": 100, "mixing_ratio": 0.0},
    ]
    weights = {3: 1.0, 8: 0.35}
    state = {
        "layers_to_train": [3, 8],
        "layer_weights": weights,
        "curriculum_schedule": schedule,
        "current_stage_index": 2,
    }
    several_layers(tmp_path, weights, {"lambda_reg": 0.5}, state)
    run = read_run(tmp_path)
    assert run.layers[8].columns["weight/direct"][0] == pytest.approx(0.35 * 10)
    assert run.layers[3].columns["weight/regularisation"][0] == pytest.approx(0.5)
    assert any("layer 8 × 0.35. Their sum is the logged total" in note for note in run.notes)
    assert run.marks == ((5, "mixed 0.5"), (15, "student"))


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("state", [Hostile(), [1], {"layer_weights": {"a": Hostile()}}])
def test_a_state_that_is_not_plain_is_a_note_and_nothing_of_it_runs(tmp_path, state):
    several_layers(tmp_path, {3: 1.0, 8: 0.35}, {"lambda_reg": 0.5}, state)
    run = read_run(tmp_path)
    assert any(note.startswith("multi_layer_state.pt ") for note in run.notes)
    assert any("found from the log itself" in note for note in run.notes), "the log has them too"


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
    assert any("layer 8 × 0.5. Their sum is the logged total" in note for note in run.notes)
    assert run.marks == ((5, "mixed 0.5"), (15, "student"))
