"""`python -m npt_viz`, end to end on tiny files: what goes where, and with which exit status."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onpage import LAYERS

import npt_viz
from npt_viz.__main__ import main
from npt_viz.adapter import Semantics, random_adapter
from npt_viz.checkpoint import Checkpoint
from npt_viz.commands.inspect import COLUMNS, in_words
from npt_viz.results.inspection import NO_V_A_DOT_H
from npt_viz.runs import read_run
from npt_viz.texts import texts_from_file

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("convert", "inspect", "model", "open", "train")


def strict(text: str):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def call(capsys):
    """call("open", …): the exit status, stdout and stderr."""

    def called(*arguments: str) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return called


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("The cat sat on the mat, and the dog did not. " * 40)
    return str(path)


# The frame


def test_help_answers_without_torch():
    program = (
        "import sys; from npt_viz.__main__ import main; status = main(['train', '--help']);"
        "assert not {'torch', 'transformers', 'numpy', 'streamlit'} & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--losses" in done.stdout


def test_every_command_is_listed_with_its_sentence(call):
    status, out, _ = call("--help")
    assert status == 0
    for command in COMMANDS:
        assert f"  {command} " in out
    assert "What a checkpoint holds, and whether it fits the base model." in out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("bake",),
        ("open",),
        ("open", "--model", "m"),
        ("open", "--modle", "m", "c"),
        ("inspect", "--model", "m", "--checkpoint", "c"),
        ("inspect", "--model", "m", "--checkpoint", "c", "--prompt", "p", "--mode", "global"),
        ("inspect", "--model", "m", "--checkpoint", "c", "--prompt", "p", "--layers", "3;15"),
        ("train", "--model", "m", "--layers", "15", "--steps", "many"),
        ("train", "--model", "m"),
        ("train", "--model", "m", "--layers", "15", "--resume", "c"),
        ("train", "--model", "m", "--from", "c", "--rank", "3"),
        ("train", "--model", "m", "--from", "c", "--variant", "N4"),
        ("train", "--model", "m", "--resume", "c", "--tokens", "99"),
        ("train", "--model", "m", "--layers", "15", "--text", "t", "--samples", "9"),
        ("train", "--model", "m", "--resume", "c", "--from", "c"),
        ("train", "--model", "m", "--resume", "c", "--learning-rate", "0.003"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_with_the_usage_on_stderr(call, arguments):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert "Usage: npt_viz" in err


def test_a_process_ends_with_the_status(on_disk):
    done = subprocess.run(
        [sys.executable, "-m", "npt_viz", "model", "/nowhere/at/all", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("npt_viz: /nowhere/at/all: ")


def test_ctrl_c_is_status_130(call, on_disk, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("npt_viz.model.opening.open_model", stopped)
    status, out, err = call("open", "--model", on_disk.model, on_disk.checkpoint)
    assert (status, out) == (130, "")
    assert "Traceback" not in err


def test_running_out_of_memory_is_a_sentence(call, on_disk, monkeypatch):
    def greedy(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("npt_viz.capture.inspection.inspect", greedy)
    status, _, err = call(
        "inspect", "--model", on_disk.model, "--checkpoint", on_disk.checkpoint, "--prompt", "a"
    )
    assert status == 1
    assert "needs more GPU memory" in err and "shorten the prompt" in err


# model


def test_model_says_where_it_is(call, on_disk):
    status, out, _ = call("model", on_disk.model, "--json")
    assert status == 0
    assert strict(out) == {
        "name": on_disk.model,
        "source": "folder",
        "path": str(Path(on_disk.model).resolve()),
    }


# open


def test_open_prints_the_load_report_alone(call, on_disk):
    status, out, _ = call("open", "--model", on_disk.model, on_disk.checkpoint, "--json")
    assert status == 0
    model = npt_viz.open_model(on_disk.model)
    report = npt_viz.open_checkpoint(on_disk.checkpoint, model).report
    assert strict(out) == json.loads(json.dumps(report.to_json()))
    assert [layer["layer"] for layer in strict(out)["layers"]] == list(LAYERS)


def test_open_for_people_names_the_layers_and_the_base(call, on_disk):
    status, out, _ = call("open", "--model", on_disk.model, on_disk.checkpoint)
    assert status == 0
    assert "gate+up+down" in out and "config and weights of its layers are those of" in out


def test_nan_weights_are_reported_and_status_1(call, on_disk, tmp_path):
    weights = {"layer_2_np.W_down": torch.ones(24, 7), "layer_2_np.W_a_up": torch.ones(7, 24)}
    weights["layer_2_np.W_b_up"] = torch.full((7, 31), torch.nan)
    torch.save(weights, tmp_path / "npt_weights.pt")
    status, out, err = call("open", "--model", on_disk.model, tmp_path / "npt_weights.pt", "--json")
    assert status == 1
    assert strict(out)["layers"][0]["n_nan"] == 7 * 31
    assert "layer 2 holds 217 NaN" in err.splitlines()[-1]


def test_open_obeys_the_semantics_asked_for(call, on_disk):
    _, out, _ = call("open", "--model", on_disk.model, on_disk.checkpoint, "--semantics", "beside", "--json")
    assert strict(out)["layers"][0]["semantics"]["attention"] == "beside"


def test_a_missing_checkpoint_is_one_sentence(call, on_disk):
    status, out, err = call("open", "--model", on_disk.model, "nowhere.pt", "--json")
    assert (status, out) == (1, "")
    assert err.startswith("npt_viz: nowhere.pt: ") and err.count("\n") == 1


# inspect


def test_inspect_prints_the_numbers_of_the_library(call, on_disk):
    status, out, _ = call(
        *("inspect", "--model", on_disk.model, "--checkpoint", on_disk.checkpoint),
        *("--prompt", "the cat the", "--layers", "3", "--mode", "propagated", "--top-k", "4", "--json"),
    )
    assert status == 0
    found = strict(out)
    model = npt_viz.open_model(on_disk.model)
    checkpoint = npt_viz.open_checkpoint(on_disk.checkpoint, model)
    run = npt_viz.inspect(model, checkpoint, "the cat the", layers=[3], mode="propagated", top_k=4)
    layer = found["layers"]["3"]
    assert list(found["layers"]) == ["3"]
    assert found["tokens"] == list(run.tokens) and found["token_ids"] == list(run.token_ids)
    for name in ("relative_error", "cosine", "recovered", "update_norm", "scalar"):
        np.testing.assert_array_equal(np.array(layer[name], np.float32), getattr(run.layers[3], name))
    np.testing.assert_array_equal(
        np.array(layer["scalars"]["down"], np.float32), run.layers[3].scalars["down"]
    )
    np.testing.assert_array_equal(np.array(found["kl"], np.float32), run.kl)
    assert found["npt_top"][10] == [list(row) for row in run.npt_top.rows(10)]
    assert [len(rows) for rows in found["base_top"]] == [4] * 11


def test_what_json_does_not_have_is_null(call, on_disk):
    """The last token is followed by nothing: its surprise is NaN."""
    _, out, _ = call(
        "inspect", "--model", on_disk.model, "--checkpoint", on_disk.checkpoint, "--prompt", "ab", "--json"
    )
    assert strict(out)["nll_base"][1] is None


def test_inspect_explains_its_columns_and_a_dash(tiny_llama):
    down = random_adapter(2, Semantics(), ("down",), d_model=24, d_ffn=31, rank=5, std=0.3)
    checkpoint = Checkpoint.from_adapters({2: down.eval()}, tiny_llama, "down alone")
    told = in_words(npt_viz.inspect(tiny_llama, checkpoint, "the cat"))
    table, legend = told.split("columns (")
    for heading in (*COLUMNS.values(), "KL nats"):
        assert heading in table and f"\n  {heading}: " in legend
    assert legend.count("\n") == len(COLUMNS) + 2, "the columns, the KL and the dash"
    assert f"–: {NO_V_A_DOT_H}" in legend and "–" in table
    assert "None" not in told and "nan" not in told


def test_inspect_for_people_has_a_table_a_layer_and_the_predictions(call, on_disk):
    status, out, _ = call(
        "inspect", "--model", on_disk.model, "--checkpoint", on_disk.checkpoint, "--prompt", "a b"
    )
    assert status == 0
    assert "layer 1 (N5)" in out and "layer 3 (N5)" in out and "next token" in out
    assert sum(line.split()[1:2] == ["␣"] for line in out.splitlines()) == 3, (
        "in each layer and the predictions"
    )


def test_notes_go_to_stderr(call, on_disk):
    arguments = ("--model", on_disk.model, "--checkpoint", on_disk.checkpoint, "--prompt", "a ", "--json")
    _, out, err = call("inspect", *arguments)
    assert "ends with a space" in err
    assert "ends with a space" in strict(out)["notes"][0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--prompt", ""), "the prompt is empty"),
        (("--prompt", "x" * 98), "shorten it by 1"),
        (("--prompt", "a", "--layers", "2"), "layer 2 is no NPT layer"),
        (("--prompt", "a", "--chat"), "no chat template"),
        (("--prompt", "a", "--device", "toaster"), "'toaster' is not on this machine"),
        (("--prompt", "a", "--semantics", "N9"), "'N9' is unknown"),
    ],
)
def test_bad_input_to_inspect_is_status_1(call, on_disk, options, words):
    status, out, err = call("inspect", "--model", on_disk.model, "--checkpoint", on_disk.checkpoint, *options)
    assert (status, out) == (1, "")
    assert words in err.splitlines()[-1] and "Traceback" not in err


# convert


def test_a_checkpoint_goes_to_format_a_and_back(call, on_disk, tmp_path):
    assert call("convert", on_disk.checkpoint, tmp_path / "a", "--to", "A")[0] == 0
    status, out, _ = call(
        *(
            "convert",
            tmp_path / "a",
            tmp_path / "native",
            "--model",
            on_disk.model,
            "--semantics",
            "N5",
            "--json",
        )
    )
    assert status == 0
    assert strict(out)["path"] == str(tmp_path / "native")
    before, after = (npt_viz.open_checkpoint(path) for path in (on_disk.checkpoint, tmp_path / "native"))
    for name, tensor in before.adapter(3).state_dict().items():
        assert torch.equal(after.adapter(3).state_dict()[name], tensor), name


def test_converting_does_not_overwrite_unasked(call, on_disk, tmp_path):
    arguments = ("convert", on_disk.checkpoint, tmp_path / "native")
    assert call(*arguments)[0] == 0
    assert call(*arguments)[0] == 1
    assert call(*arguments, "--overwrite")[0] == 0


# train


def test_every_setting_of_the_command_reaches_the_training(call, on_disk, text, tmp_path):
    status, _, err = call(
        *("train", "--model", on_disk.model, "--layers", "1,3", "--variant", "N1", "--targets", "up"),
        *("--attention", "beside", "--scale", "0.5", "--rank", "5", "--components", "2"),
        *("--initialisation", "uniform", "--losses", "direct=1,guidance:as_written=0.2"),
        *("--adaptive", "gradient_norms", "--stages", "2", "--curriculum", "1:0.4,3:0.8"),
        *("--gradient-scale", "3", "--tokens", "400", "--window", "30", "--steps", "3", "--seed", "4"),
        *("--learning-rate", "0.01", "--warmup", "1", "--schedule", "constant", "--batch-tokens", "17"),
        *("--accumulate", "2", "--weight-decay", "0.1", "--clip", "0.5", "--evaluate-every", "2"),
        *("--whole-sequences", "--cosines-every", "2", "--stream", "in_order", "--autocast", "off"),
        *("--positions", "trained", "--text", text, "--out", tmp_path / "made", "--licence", "MIT"),
        *("--fault", "a test", "--save-dtype", "bfloat16"),
    )
    assert status == 0, err
    opened = npt_viz.open_checkpoint(tmp_path / "made")
    assert (opened.config["licence"], opened.config["fault"]) == ("MIT", "a test")
    for layer in opened.report.layers:
        assert (layer.targets, layer.rank, layer.components, layer.dtype) == (("up",), 5, 2, "bfloat16")
        assert (layer.semantics["attention"], layer.semantics["scale"]) == ("beside", 0.5)
    recipe = opened.config["recipe"]
    expected = {
        **{"weights": {"direct": 1.0, "guidance": 0.2}, "as_written": ["guidance"]},
        **{"adaptive": "gradient_norms", "stage_steps": 2, "gradient_scale": 3.0},
        **{"curriculum": {"steps": [1, 3], "quantiles": [0.4, 0.8]}, "steps": 3, "seed": 4},
        **{"learning_rate": 0.01, "warmup": 1, "schedule": "constant", "batch_tokens": 17, "accumulate": 2},
        **{"weight_decay": 0.1, "clip": 0.5, "evaluate_every": 2, "whole_sequences": True},
        **{"cosines_every": 2, "stream": "in_order", "autocast": False, "positions": "trained"},
    }
    assert {name: recipe[name] for name in expected} == expected
    assert recipe["train_tokens"] + recipe["heldout_tokens"] <= 400
    assert sorted(opened.config["figures"]["heldout"]) == ["1", "3"], "of layers in order, all"


def test_a_training_that_diverges_says_so_and_is_status_1(call, on_disk, text, tmp_path):
    arguments = (
        *("train", "--model", on_disk.model, "--layers", "2", "--rank", "5", "--losses", "direct=1"),
        *("--learning-rate", "3", "--clip", "1e6", "--steps", "2000", "--batch-tokens", "32"),
        *("--evaluate-every", "50", "--schedule", "constant", "--text", text),
    )
    status, out, err = call(*arguments, "--out", tmp_path / "made", "--json")
    summary = strict(out.splitlines()[-1])
    assert status == 1 and summary["diverged"] is True and summary["steps"] < 2000, err
    assert err.splitlines()[-1].startswith("npt_viz: ") and "lower the learning rate" in err.splitlines()[-1]
    assert {alarm["rule"] for alarm in summary["alarms"]} & {"explosion", "worse than none"}
    assert all(alarm["sentence"] in err for alarm in summary["alarms"])
    assert npt_viz.open_checkpoint(tmp_path / "made").config["figures"]["heldout"]["2"]["recovered"] < 0


def test_a_healthy_training_has_not_diverged(call, on_disk, text):
    status, out, _ = call(
        *("train", "--model", on_disk.model, "--layers", "2", "--rank", "5", "--steps", "5"),
        *("--text", text, "--json"),
    )
    summary = strict(out.splitlines()[-1])
    assert (status, summary["diverged"], summary["endings"]) == (0, False, [])


def test_train_ends_with_the_share_recovered_and_saves(call, on_disk, text, tmp_path):
    status, out, err = call(
        *("train", "--model", on_disk.model, "--layers", "1,3", "--targets", "gate,up", "--rank", "5"),
        *("--components", "2", "--losses", "direct=1", "--steps", "7", "--batch-tokens", "16"),
        *("--text", text, "--seed", "3", "--out", tmp_path / "trained", "--json"),
    )
    assert status == 0, err
    summary = strict(out.splitlines()[-1])
    assert summary["steps"] == 7 and summary["seconds"] > 0
    shares = [layer["recovered"] for layer in summary["layers"].values()]
    assert summary["heldout_recovered"] == pytest.approx(sum(shares) / 2)
    checkpoint = npt_viz.open_checkpoint(tmp_path / "trained", npt_viz.open_model(on_disk.model))
    assert checkpoint.layers == (1, 3)
    assert [(layer.rank, layer.components, layer.targets) for layer in checkpoint.report.layers] == [
        (5, 2, ("gate", "up"))
    ] * 2
    assert checkpoint.config["recipe"]["seed"] == 3
    assert checkpoint.config["figures"]["heldout"]["1"]["recovered"] == summary["layers"]["1"]["recovered"]
    curves = read_run(tmp_path / "trained").layers
    assert sorted(curves) == [1, 3] and len(curves[3].steps) == 7, "the Runs page reads its record"


def test_the_figures_are_those_of_the_weights_as_they_are_saved(call, on_disk, text, tmp_path):
    shares = {}
    for dtype in ("bfloat16", "float32"):
        status, out, err = call(
            *("train", "--model", on_disk.model, "--layers", "1", "--rank", "5", "--steps", "20"),
            *(
                "--batch-tokens",
                "16",
                "--text",
                text,
                "--save-dtype",
                dtype,
                "--out",
                tmp_path / dtype,
                "--json",
            ),
        )
        assert status == 0, err
        shares[dtype] = strict(out.splitlines()[-1])["heldout_recovered"]
    base = npt_viz.open_model(on_disk.model)
    saved = npt_viz.open_checkpoint(tmp_path / "bfloat16", base)
    again = npt_viz.train(base, saved, texts_from_file(text), {"direct": 1.0}, steps=1, batch_tokens=16)
    assert again.evaluation()[1].recovered == pytest.approx(shares["bfloat16"], rel=1e-5)
    assert shares["bfloat16"] != pytest.approx(shares["float32"], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--layers", "3,3"), "layers 3,3 name one layer twice"),
        (("--layers", "99"), "99"),
        (
            ("--layers", "1", "--targets", "gate,x"),
            "target 'x' does not exist; choose one or more of gate, up, down",
        ),
        (("--layers", "1", "--losses", "guesswork=1"), "guesswork"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_captured(call, on_disk, text, arguments, says):
    status, out, err = call("train", "--model", on_disk.model, "--text", text, *arguments)
    assert (status, out) == (1, "")
    assert says in err and "capturing" not in err and err.count("\n") == 1


@pytest.mark.parametrize("variant", ["S0", "S1-early", "S1-add", "S1-mult-later", "T1", "S2", "N2"])
def test_a_variant_is_trained_by_its_name_and_opens_as_it_was_trained(call, on_disk, text, tmp_path, variant):
    status, _, err = call(
        *("train", "--model", on_disk.model, "--layers", "2", "--variant", variant.lower(), "--rank", "5"),
        *("--steps", "3", "--batch-tokens", "16", "--text", text, "--out", tmp_path / "trained"),
    )
    assert status == 0, err
    (layer,) = npt_viz.open_checkpoint(tmp_path / "trained").report.layers
    assert (layer.variant, layer.provenance) == (variant, "from the file")


def test_training_twice_gives_the_same_weights(call, on_disk, text, tmp_path):
    arguments = (
        "train",
        "--model",
        on_disk.model,
        "--layers",
        "2",
        "--rank",
        "3",
        "--steps",
        "3",
        "--text",
        text,
    )
    for name in ("one", "two"):
        assert call(*arguments, "--out", tmp_path / name)[0] == 0
    one, two = ((tmp_path / name / "npt_weights.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_training_goes_on_from_some_layers_of_a_checkpoint(call, on_disk, text, tmp_path):
    status, _, err = call(
        *("train", "--model", on_disk.model, "--from", on_disk.checkpoint, "--layers", LAYERS[1]),
        *("--steps", "2", "--text", text, "--out", tmp_path / "on"),
    )
    assert status == 0, err
    assert npt_viz.open_checkpoint(tmp_path / "on").layers == LAYERS[1:2]


def test_training_goes_on_from_a_checkpoint(call, on_disk, text, tmp_path):
    status, _, _ = call(
        *("train", "--model", on_disk.model, "--from", on_disk.checkpoint, "--steps", "2", "--text", text),
        *("--out", tmp_path / "on"),
    )
    assert status == 0
    assert npt_viz.open_checkpoint(tmp_path / "on").layers == LAYERS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--layers", "9"), "layer 9 does not exist"),
        (("--layers", "2", "--losses", "magic=1"), "'magic'"),
        (("--layers", "2", "--losses", "direct=much"), "'direct=much' must be NAME=WEIGHT"),
        (("--layers", "2", "--losses", "direct=1,direct=5"), "'direct' is named twice"),
        (("--layers", "2", "--losses", "direct=-1"), "must be 0 or more and finite, got -1"),
        (("--resume", "nowhere.pt"), "nowhere.pt: there is no such file"),
        (("--layers", "2", "--rank", "25"), "rank 25 is more than d_model 24"),
        (("--layers", "2", "--variant", "N9"), "'N9' does not exist"),
        (("--layers", "2", "--variant", "T1", "--components", "4"), "has no components, got 4"),
        (("--layers", "2", "--variant", "S1-early+residual"), "there is nothing to learn; choose"),
        (
            ("--layers", "2", "--rank", "5", "--variant", "S1-early", "--losses", "guidance=1"),
            "loss guidance: an additive adapter has no v_a and v_b",
        ),
        (("--layers", "2", "--text", "nowhere.txt"), "nowhere.txt: no such file or folder"),
    ],
)
def test_bad_input_to_train_is_status_1(call, on_disk, text, options, words):
    defaults = () if {"--text", "--resume"} & set(options) else ("--text", text)
    status, out, err = call("train", "--model", on_disk.model, *defaults, "--steps", "2", *options)
    assert (status, out) == (1, "")
    assert words in err.splitlines()[-1]


def test_a_full_folder_is_refused_before_training(call, on_disk, text, tmp_path, monkeypatch):
    (tmp_path / "kept.txt").write_text("mine")
    monkeypatch.setattr("npt_viz.training.trainer.train", None)
    status, _, err = call(
        "train", "--model", on_disk.model, "--layers", "2", "--text", text, "--out", tmp_path
    )
    assert status == 1
    assert "is not empty" in err and (tmp_path / "kept.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("out", "options", "words"),
    [
        ("file", (), "file: is a file; --out names a folder: choose another --out"),
        ("file", ("--overwrite",), "file: is a file; --out names a folder: choose another --out"),
        ("file/below", (), "file: is a file; --out names a folder: choose another --out"),
        (
            "thesis",
            ("--overwrite",),
            "thesis: is no checkpoint, so it is not overwritten; choose another name",
        ),
    ],
)
def test_an_out_that_cannot_be_saved_in_is_refused_before_training(
    call, on_disk, text, tmp_path, monkeypatch, out, options, words
):
    def opened(*_, **__):
        raise AssertionError("the base was opened before --out was checked")

    monkeypatch.setattr("npt_viz.open_model", opened)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    arguments = ("--layers", "2", "--text", text, "--out", tmp_path / out)
    status, _, err = call("train", "--model", on_disk.model, *arguments, *options)
    assert status == 1
    assert err.splitlines()[-1].endswith(words) and str(tmp_path) in err
    assert (tmp_path / "file").read_text() == "mine"


def test_resuming_beside_other_files_is_refused_before_training(call, on_disk, tmp_path, monkeypatch):
    """A state that lies alone in a folder of other things: its folder is the default --out."""
    monkeypatch.setattr("npt_viz.open_model", None)
    (tmp_path / "paused.pt").write_bytes(b"a saved training")
    status, _, err = call("train", "--model", on_disk.model, "--resume", tmp_path / "paused.pt")
    assert status == 1 and "is no checkpoint, so it is not overwritten" in err.splitlines()[-1]


def test_ctrl_c_in_training_keeps_what_was_learned(call, on_disk, text, tmp_path, monkeypatch):
    from npt_viz.training.trainer import Training

    step = Training.__next__

    def interrupted(self):
        if self.done == 4:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Training, "__next__", interrupted)
    status, out, _ = call(
        *(
            "train",
            "--model",
            on_disk.model,
            "--layers",
            "2",
            "--rank",
            "3",
            "--steps",
            "100",
            "--text",
            text,
        ),
        *("--out", tmp_path / "stopped", "--json"),
    )
    assert status == 130
    assert strict(out)["steps"] == 4
    assert npt_viz.open_checkpoint(tmp_path / "stopped").layers == (2,)
