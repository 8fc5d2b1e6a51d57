"""Logs made by hand, read: every column under a name that says what it is, no line lost in silence."""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from npt_viz.errors import NptVizError
from npt_viz.results.training import HeldOut, LayerStep, Step, TargetStep
from npt_viz.runs import files_of, line, lines, read_run


def row(step, **more):
    """One line of a published single-layer log."""
    return {
        "step": step,
        "total_loss": 3.0 / step,
        "direct_mlp_loss": 0.25 / step,
        "fidelity_loss": 0.5 / step,
        "regularization_loss": 2.0,
        "learning_rate": 1e-4,
        "grad_norm": 0.7,
        "v_a_attention_similarity": 0.3,
        "v_a_norm": 12.0,
        "v_b_norm": 24.0,
        "modulation_magnitude": 6.0,
    } | more


def written(folder, rows, name="training_log.jsonl", config=None):
    """A log file, with the config beside it; rows that are bytes go in as they are."""
    folder.mkdir(exist_ok=True, parents=True)
    parts = [line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in rows]
    (folder / name).write_bytes(b"".join(parts))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / name


def notes(run) -> str:
    return " ".join(run.notes)


def test_a_single_layer_log_has_our_column_names(tmp_path):
    run = read_run(written(tmp_path / "mine", [row(1), row(2), row(5)]))
    assert run.name == "mine" and run.format == "published" and list(run.layers) == [None]
    curves = run.layers[None]
    assert curves.steps.tolist() == [1, 2, 5]
    assert curves.columns["total"].tolist() == [3.0, 1.5, 0.6]
    assert curves.columns["loss/direct"].tolist() == [0.25, 0.125, 0.05]
    assert set(curves.parts("loss")) == {"direct", "fidelity", "regularisation"}
    assert curves.columns["learning_rate"].tolist() == [1e-4] * 3
    assert run.skipped == 0 and run.last_step == 5


def test_the_layer_of_a_single_layer_log_is_the_one_its_config_names(tmp_path):
    assert list(read_run(written(tmp_path, [row(1)], config={"layer_idx": 13})).layers) == [13]
    assert list(read_run(written(tmp_path, [row(1)], config={"train_layers": "13,14"})).layers) == [None]


def test_a_multi_layer_log_is_taken_apart_by_layer(tmp_path):
    rows = [
        {
            "step": step,
            "total_loss": 9.0,
            "fidelity_loss": 1.0,
            "curriculum_stage": "teacher" if step < 3 else "mixed",
            "mixing_ratio": 0.0,
            "layer_losses": {
                "layer_14_direct_mlp": 14.0 * step,
                "layer_14_reg": 0.5,
                "layer_3_direct_mlp": 3.0 * step,
                "layer_3_v_a_norm": 7.0,
                "layer_3_v_a_attn_similarity": 0.25,
            },
        }
        for step in (1, 2, 3, 4)
    ]
    run = read_run(written(tmp_path, rows))
    assert list(run.layers) == [None, 3, 14]
    assert run.layers[14].columns["loss/direct"].tolist() == [14, 28, 42, 56]
    assert run.layers[3].columns["loss/direct"].tolist() == [3, 6, 9, 12]
    assert run.layers[3].columns["attention_similarity"].tolist() == [0.25] * 4
    assert "loss/direct" not in run.layers[None].columns
    assert run.marks == ((3, "mixed"),)


def test_interleaved_evaluations_lie_beside_the_steps_they_belong_to(tmp_path):
    rows = [
        row(1),
        row(2),
        {"step": 2, "val_loss": 0.5, "val_direct_mlp_loss": 0.125, "val_fidelity_loss": 0.75},
        row(3),
        {"val_loss": 0.25},
        row(4),
        {"step": 3, "val_direct_mlp_loss": 0.0625},
        row(5),
    ]
    run = read_run(written(tmp_path, rows))
    curves = run.layers[None]
    assert curves.steps.tolist() == [1, 2, 3, 4, 5]
    assert [v.tolist() for v in curves.measured("heldout/total")] == [[2, 3], [0.5, 0.25]]
    assert [v.tolist() for v in curves.measured("heldout/direct")] == [[2, 3], [0.125, 0.0625]]
    assert curves.measured("heldout/fidelity")[1].tolist() == [0.75]
    assert np.isfinite(curves.columns["total"]).all(), "an evaluation is no resume"
    assert "resumed" not in notes(run)


def test_an_evaluation_between_two_logged_steps_keeps_its_own_step(tmp_path):
    run = read_run(written(tmp_path, [row(10), row(20), {"step": 15, "val_loss": 4.0}, row(30)]))
    curves = run.layers[None]
    assert curves.steps.tolist() == [10, 15, 20, 30]
    np.testing.assert_array_equal(curves.columns["total"], [0.3, np.nan, 0.15, 0.1])
    assert curves.measured("heldout/total")[0].tolist() == [15]


def test_after_a_resume_what_was_logged_last_holds(tmp_path):
    rows = [row(s, total_loss=100.0 + s, old=1.0) for s in range(1, 10)]
    rows += [{"step": 9, "val_loss": 9.0}]
    rows += [row(s, total_loss=200.0 + s) for s in range(6, 9)]
    run = read_run(written(tmp_path, rows))
    curves = run.layers[None]
    assert curves.steps.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert curves.columns["total"].tolist() == [101, 102, 103, 104, 105, 206, 207, 208]
    assert curves.measured("old")[0].tolist() == [1, 2, 3, 4, 5], "nothing of an abandoned step is left"
    assert "heldout/total" not in curves.columns
    assert "from 9 back to 6" in notes(run)


def test_a_step_that_is_logged_twice_counts_once(tmp_path):
    run = read_run(written(tmp_path, [row(1), row(2, total_loss=5.0), row(2, total_loss=7.0)]))
    assert run.layers[None].columns["total"].tolist() == [3.0, 7.0]


def test_corrupt_lines_are_skipped_counted_and_named(tmp_path):
    rows = [
        row(1),
        b"{broken\n",
        b"\n",
        b"[1, 2]\n",
        b"\xff\xfe\x00\n",
        b'{"total_loss": 1.0}\n',
        b'{"step": "7", "total_loss": 1.0}\n',
        b'{"step": true, "total_loss": 1.0}\n',
        b'{"step": -1, "total_loss": 1.0}\n',
        b'{"step": 1e400, "total_loss": 1.0}\n',
        b'{"step": 2.5, "total_loss": 1.0}\n',
        b'{"step": 3, "note": "hello"}\n',
        b"[" * 100_000 + b"\n",
        row(2),
        b'{"step": 3, "total_lo',
    ]
    run = read_run(written(tmp_path, rows))
    assert run.layers[None].steps.tolist() == [1, 2]
    assert run.skipped == 12
    assert (
        "12 lines were skipped: line 2 (not JSON), line 4 (no object), line 5 (not JSON), line 6 (no step"
        in notes(run)
    )
    assert "and 7 more." in notes(run)


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 1000)
    run = read_run(written(tmp_path, [row(1), b"x" * 5500 + b"\n", row(2)]))
    assert run.layers[None].steps.tolist() == [1, 2] and run.skipped == 1


def test_nan_and_infinity_are_gaps_and_are_counted(tmp_path):
    rows = [row(1), row(2, total_loss=math.nan), row(3, total_loss=math.inf, grad_norm=-math.inf), row(4)]
    big = json.dumps(row(5)).replace("0.7", "1" + "0" * 400).encode() + b"\n"
    run = read_run(written(tmp_path, [*rows, big]))
    assert run.layers[None].measured("total")[0].tolist() == [1, 4, 5]
    assert run.layers[None].measured("grad_norm")[0].tolist() == [1, 2, 4]
    assert "4 values are NaN, infinite or null" in notes(run)


@pytest.mark.parametrize("nothing", [None, "nan", "NaN", "-inf", math.nan])
def test_null_and_written_nan_interrupt_the_line_and_nothing_else(tmp_path, nothing):
    rows = [
        row(1),
        row(2),
        row(3, total_loss=nothing),
        row(4, total_loss=nothing),
        row(5),
        {"step": 5, "val_loss": 2},
    ]
    run = read_run(written(tmp_path, rows))
    assert math.isnan(run.layers[None].columns["total"][2])
    drawn = line(run, None, "total")
    np.testing.assert_array_equal(drawn.x, [1, 2, 3, 5])
    np.testing.assert_array_equal(drawn.y, [3.0, 1.5, np.nan, 0.6])
    assert drawn.n_values == 3 and "2 values are NaN, infinite or null" in notes(run)
    assert np.isfinite(line(run, None, "loss/direct").y).all(), "a column that was measured is whole"
    assert line(run, None, "heldout/total").x.tolist() == [5]


def ranks(order, steps, **more):
    """Lines of two processes; order: which of them writes next."""
    waiting = {rank: iter(steps) for rank in set(order)}
    return [row(next(waiting[rank]), total_loss=10.0 * rank + 1, **more) for rank in order]


@pytest.mark.parametrize(
    "order", [[0, 1] * 9, [1, 0, 0, 1] * 4 + [0, 1], [0, 0, 1, 1] * 4 + [0, 1], [0, 0, 1] + [0, 1] * 7 + [1]]
)
def test_lines_of_several_processes_are_no_resume(tmp_path, order):
    run = read_run(written(tmp_path, ranks(order, range(10, 100, 10))))
    assert run.layers[None].steps.tolist() == list(range(10, 100, 10))
    assert "resumed" not in notes(run) and "several processes seem to have written" in notes(run)


def test_of_several_named_ranks_the_first_is_shown(tmp_path):
    rows = [
        row(step, total_loss=float(10 * step + rank), rank=rank) for step in (1, 2, 3) for rank in (0, 1, 2)
    ]
    run = read_run(written(tmp_path, rows))
    assert run.layers[None].columns["total"].tolist() == [10, 20, 30]
    assert "the lines of rank 0 are shown, 6 of rank 1, 2 are left out" in notes(run) and run.skipped == 0


@pytest.mark.parametrize("back_to", [1, 4, 8])
def test_one_resume_is_a_resume_however_far_back(tmp_path, back_to):
    rows = [row(step) for step in range(1, 11)] + [row(step) for step in range(back_to, 13)]
    assert "the training was resumed there" in notes(read_run(written(tmp_path, rows)))


def test_the_config_of_the_runs_root_is_read_and_not_that_of_a_model(tmp_path):
    model = {"architectures": ["LlamaForCausalLM"], "layer_idx": 2}
    path = written(tmp_path / "run" / "logs", [row(1)], config=model)
    (tmp_path / "run" / "config.json").write_text(json.dumps({"layer_idx": 13}))
    assert list(read_run(path).layers) == [13]
    (tmp_path / "run" / "config.json").unlink()
    newest = tmp_path / "run" / "checkpoints" / "final"
    newest.mkdir(parents=True)
    (newest / "config.json").write_text(json.dumps({"layer_idx": 11}))
    assert list(read_run(path).layers) == [11]
    assert files_of(path) == [path, newest / "config.json"]


def test_a_config_above_an_unrelated_folder_is_not_the_runs(tmp_path):
    path = written(tmp_path / "run", [row(1)])
    (tmp_path / "config.json").write_text(json.dumps({"layer_idx": 13}))
    assert list(read_run(path).layers) == [None]


def test_evaluations_beside_the_log_are_read(tmp_path):
    path = written(tmp_path, [row(100), row(200), {"step": 200, "val_loss": 0.5}])
    (tmp_path / "evaluation").mkdir()
    evaluations = [
        {"step": 100, "loss": 0.7, "perplexity": math.exp(0.7), "num_samples": 20, "direct_mlp_loss": 0.3},
        {"step": 200, "loss": 0.6, "perplexity": math.exp(0.6), "num_samples": 20, "direct_mlp_loss": 0.2},
        {"loss": 0.1},
    ]
    beside = tmp_path / "evaluation" / "eval_metrics_layer_15.json"
    beside.write_text(json.dumps(evaluations))
    run = read_run(path)
    curves = run.layers[15]
    assert curves.measured("heldout/fixed set/total")[1].tolist() == [0.7, 0.6]
    assert curves.measured("heldout/fixed set/direct loss")[1].tolist() == [0.3, 0.2]
    assert curves.measured("heldout/total")[1].tolist() == [0.5], "val_loss is of another text"
    assert "2 evaluations of layer 15 on a text of its own" in notes(run)
    assert "1 rows without a step are left out" in notes(run) and "num_samples" not in " ".join(run.columns)
    assert files_of(path) == [path, beside]
    beside.write_text("{")
    assert "eval_metrics_layer_15.json could not be read" in notes(read_run(path))


def test_evaluations_of_several_layers_go_to_their_layers(tmp_path):
    nested = {"layer_3_direct_mlp": 0.2, "layer_8_direct_mlp": 0.4}
    path = written(tmp_path, [{"step": 10, "total_loss": 1.0, "layer_losses": nested}])
    (tmp_path / "evaluation").mkdir()
    for layer in (3, 8):
        content = [{"step": 10, "loss": layer / 10}]
        (tmp_path / "evaluation" / f"eval_metrics_layer_{layer}.json").write_text(json.dumps(content))
    run = read_run(path)
    assert {layer: run.layers[layer].columns["heldout/fixed set/total"].tolist() for layer in (3, 8)} == {
        3: [0.3],
        8: [0.8],
    }


@pytest.mark.parametrize("switch", [100, 200, 2400])
def test_stage_lines_are_where_the_logs_stage_changes_and_nowhere_else(tmp_path, switch):
    rows = [row(step, stage=1 if step < switch else 2, total_loss=1.0 + step) for step in range(50, 9000, 50)]
    assert read_run(written(tmp_path, rows)).marks == ((switch, "stage 2"),)


def test_a_similarity_of_zero_is_not_computed(tmp_path):
    rows = [
        row(1, v_a_attention_similarity=0.0),
        row(2, v_a_attention_similarity=-0.5),
        row(3, v_a_attention_similarity=0),
    ]
    run = read_run(written(tmp_path, rows))
    assert [v.tolist() for v in run.layers[None].measured("attention_similarity")] == [[2], [-0.5]]
    assert "0.0 on 2 of 3 lines, which means “not computed”" in notes(run)
    assert "v_a_attention_similarity" not in run.columns


def test_perplexity_is_called_what_it_is(tmp_path):
    rows = [
        row(1, total_loss=0.5, perplexity=math.exp(0.5)),
        row(2, total_loss=0.25, perplexity=math.exp(0.25)),
        {"step": 2, "val_loss": 0.75, "eval/perplexity": math.exp(0.75)},
        {"step": 2, "val_perplexity": 99.0},
    ]
    run = read_run(written(tmp_path, rows))
    curves = run.layers[None]
    np.testing.assert_allclose(curves.columns["exp(distillation loss)"], np.exp([0.5, 0.25]))
    assert curves.measured("heldout/exp(distillation loss)")[1].tolist() == [99.0]
    assert not any("perplexity" in name for name in run.columns)
    assert "no perplexity of a language model (3 of 3 that could be checked agree)" in notes(run)


def test_norms_say_that_they_are_of_a_batch_and_become_norms_a_token_where_the_batch_is_known(tmp_path):
    alone = read_run(written(tmp_path / "alone", [row(1)]))
    assert alone.layers[None].columns["batch norm/v_a"].tolist() == [12.0]
    assert not any("per token" in name or name == "v_a_norm" for name in alone.columns)
    assert "they grow with the square root of batch × length" in notes(alone)
    config = {"training": {"batch_size": 3, "max_length": 12, "gradient_accumulation_steps": 5}}
    known = read_run(written(tmp_path / "known", [row(1), row(4)], config=config)).layers[None]
    assert known.columns["rms norm per token/v_a"].tolist() == [2.0, 2.0]  # 12 / √(3 · 12)
    assert known.columns["rms norm per token/v_b"].tolist() == [4.0, 4.0]
    assert known.columns["tokens"].tolist() == [180.0, 720.0]


def own_steps():
    """Two layers, three steps of 32 tokens."""
    measured = TargetStep(
        scalar_mean=1.0,
        scalar_variance=2.0,
        v_a_norm=3.0,
        v_b_norm=4.0,
        update_norm=5.0,
        attention_similarity=math.nan,
    )
    for number in (1, 2, 3):
        layers = {
            layer: LayerStep(
                terms={"direct": layer / number, "kl": 0.5},
                total=float(number),
                grad_norm=0.1,
                weights={"direct": 1.0, "kl": 2.0},
                targets={"gate": measured},
            )
            for layer in (3, 11)
        }
        heldout = {
            layer: HeldOut(
                layer=layer,
                recovered=0.1 * number,
                relative_error=0.5,
                sink_recovered=math.nan,
                scalar_mean=0.0,
                scalar_std=1.0,
                n_tokens=7,
            )
            for layer in (3, 11)
        }
        yield Step(
            number=number,
            learning_rate=1e-3,
            layers=layers,
            seconds=0.25 * number,
            heldout=heldout if number == 2 else None,
            n_tokens=32,
        )


def test_our_own_log_comes_back_as_it_was_written(tmp_path):
    from npt_viz.training.log import StepLog

    described = {"steps": 3, "stage_steps": 1, "curriculum": {"steps": [2, 9], "quantiles": [0.3, 0.7]}}
    with StepLog(tmp_path / "arm-1" / "steps.jsonl", name="arm one", settings=described) as log:
        for step in own_steps():
            log.add(step)
    run = read_run(tmp_path / "arm-1")
    assert (run.name, run.format, list(run.layers)) == ("arm one", "npt_viz", [3, 11])
    curves = run.layers[11]
    assert curves.columns["loss/direct"].tolist() == [11, 5.5, 11 / 3]
    assert curves.columns["weighted/kl"].tolist() == [1, 1, 1]
    assert [v.tolist() for v in curves.measured("heldout/recovered")] == [[2], [0.2]]
    assert curves.columns["seconds"].tolist() == [0.25, 0.5, 0.75]
    assert curves.columns["tokens"].tolist() == [32, 64, 96]
    assert "gate/attention_similarity" not in curves.columns, "never measured"
    assert run.marks == ((1, "stage 2"), (2, "2S"), (2, "more tokens"), (3, "stage 3"))
    assert run.settings == described and run.skipped == 0 and run.notes == ()


def test_layers_trained_in_order_pass_the_stages_one_after_the_other(tmp_path):
    header = {
        "format": "npt_viz steps, version 1",
        "settings": {"stream": "in_order", "steps": 10, "stage_steps": 4},
    }
    rows = [{"step": s, "layer": 2 if s <= 10 else 5, "total": 1.0} for s in range(1, 21)]
    run = read_run(written(tmp_path, [header, *rows], "steps.jsonl"))
    assert [step for step, label in run.marks if label == "stage 2"] == [4, 14]
    assert (10, "next layer") in run.marks


def test_a_resumed_log_of_ours_drops_the_abandoned_steps_of_every_layer(tmp_path):
    rows = [{"step": s, "layer": layer, "total": 1.0} for s in (1, 2, 3) for layer in (2, 5)]
    rows += [{"step": 2, "layer": layer, "total": 7.0} for layer in (2, 5)]
    run = read_run(written(tmp_path, rows, "steps.jsonl"))
    assert run.format == "npt_viz"
    assert [c.columns["total"].tolist() for c in run.layers.values()] == [[1, 7], [1, 7]]


def test_an_uploaded_file_is_read_from_its_bytes(tmp_path):
    path = written(tmp_path, [row(1), row(2)])
    run = read_run(("my log.jsonl", path.read_bytes()))
    assert run.name == run.origin.removesuffix(".jsonl") == "my log"
    assert run.layers[None].steps.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "none of its 0 lines is a step of a training"),
        (
            b"\x00" * 5000,
            "line 1 is not finished; give a steps.jsonl, a training_log.jsonl, a run-….wandb or",
        ),
        (
            b'{"format": "npt_viz steps, version 9"}\n',
            "its format is 'npt_viz steps, version 9'; this npt_viz reads",
        ),
        (
            b'{"text": "a story"}\n{"text": "another"}\n',
            "none of its 2 lines is a step of a training; line 1 is no step in it",
        ),
    ],
)
def test_a_file_that_is_no_log_is_a_sentence(tmp_path, content, sentence):
    (tmp_path / "steps.jsonl").write_bytes(content)
    with pytest.raises(NptVizError) as caught:
        read_run(tmp_path / "steps.jsonl")
    assert sentence in str(caught.value) and "steps.jsonl" in str(caught.value)


def test_a_path_that_is_no_run_is_a_sentence(tmp_path):
    with pytest.raises(NptVizError, match="nowhere: no such file or folder; give a"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(
        NptVizError, match=r"has no steps.jsonl, training_log.jsonl or run-….wandb in it; give the folder"
    ):
        read_run(tmp_path)
    written(tmp_path / "a", [row(1)])
    assert read_run(tmp_path).name == "a", "the only run below"
    written(tmp_path / "b", [row(1)])
    with pytest.raises(NptVizError, match="holds 2 runs; name one of them"):
        read_run(tmp_path)


@pytest.mark.parametrize("config", [b"{", b"[1]", b"\xff", b'{"a":' * 5000])
def test_a_broken_config_is_a_note_and_the_run_is_read(tmp_path, config):
    path = written(tmp_path, [row(1)])
    (tmp_path / "config.json").write_bytes(config)
    run = read_run(path)
    assert run.layers[None].steps.tolist() == [1] and "config.json" in notes(run)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(
    [
        *row(1),
        "layer",
        "total",
        "loss/direct",
        "val_loss",
        "layer_losses",
        "stage",
        "layer_2_reg",
        "format",
        "perplexity",
    ]
)
rows = st.dictionaries(keys, anything, max_size=6).map(lambda row: json.dumps(row).encode() + b"\n")


contents = st.lists(rows | st.binary(max_size=30).map(lambda junk: junk + b"\n"), max_size=12)


@given(contents)
@example([b'{"step": 3, "layer": 2, "total": null}\n'])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_content_is_more_than_a_run_or_a_sentence(content):
    is_a_run_or_a_sentence(content)


@pytest.mark.slow
@given(contents)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_content_of_many_is_more_than_a_run_or_a_sentence(content):
    is_a_run_or_a_sentence(content)


def is_a_run_or_a_sentence(content: list[bytes]) -> None:
    try:
        run = read_run(("fuzzed.jsonl", b"".join(content)))
    except NptVizError as error:
        assert "fuzzed.jsonl" in str(error) and "\n" not in str(error)
        return
    for curves in run.layers.values():
        assert (np.diff(curves.steps) > 0).all()
        assert all(len(values) == len(curves.steps) for values in curves.columns.values())
    assert 0 <= run.skipped <= b"".join(content).count(b"\n")
