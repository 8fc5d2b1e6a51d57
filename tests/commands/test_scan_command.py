"""`npt-viz scan` and the library say the same."""

import json

import pytest

import npt_viz
from npt_viz.__main__ import main


@pytest.fixture
def call(on_disk, capsys):
    def called(*arguments):
        status = main(
            ["scan", "--model", on_disk.model, "--checkpoint", on_disk.checkpoint, *map(str, arguments)]
        )
        return status, *capsys.readouterr()

    return called


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text(
        "".join(json.dumps({"body": f"text {i} of {i * 7 % 31}, some words"}) + "\n\n" for i in range(11))
    )
    return file


def test_json_has_every_number_and_nothing_else_on_stdout(call, corpus, on_disk):
    status, out, err = call(corpus, "--field", "body", "--layers", "3", "--json")
    assert status == 0, err
    content = json.loads(out)
    model = npt_viz.open_model(on_disk.model)
    found = npt_viz.scan(
        model, npt_viz.open_checkpoint(on_disk.checkpoint, model), corpus, field="body", layers=[3]
    )
    rows = {(row["layer"], row["number"]): row for row in content["numbers"]}
    assert rows[3, "recovered"]["mean"] == pytest.approx(found.mean("3 recovered"), rel=1e-6)
    assert rows[None, "kl"]["q50"] == pytest.approx(found.quantile("kl", 0.5), rel=1e-5)
    assert content["scan"]["n_texts"] == 11 and content["scan"]["skipped"]["empty"] == 11
    assert content["sentences"]["3"].startswith("Layer 3 recovers")
    assert {row["by"] for row in content["groups"]} == {"class", "position", "script"}


def test_a_scan_is_kept_printed_and_compared(call, corpus, tmp_path):
    status, out, err = call(corpus, "--field", "body", "--out", tmp_path / "a")
    assert (
        status == 0
        and "worst tokens" in out
        and "means by class of token" in out
        and "left out: 11 empty" in out
    )
    status, out, err = call(corpus, "--field", "body", "--mode", "propagated", "--against", tmp_path / "a")
    assert status == 0, err
    assert "Share recovered of layer 3: mean" in out and "text by text" in out
    assert "KL(base ‖ NPT): mean" in out and "they are the same." in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing.txt"], "nothing.txt: no such file or folder"),
        (["sample", "--against", "nowhere"], "nowhere: no such file or folder; give a scan's folder"),
        (["sample", "--window", "98"], "holds 97"),
    ],
)
def test_bad_input_is_one_sentence(call, arguments, message):
    status, out, err = call(*arguments)
    assert status == 1 and out == "" and message in err and "Traceback" not in err


def test_an_address_without_workers_is_wrong_usage(call):
    status, _, err = call("sample", "--ray", "auto")
    assert status == 2 and "--workers" in err
