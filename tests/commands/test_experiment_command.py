"""`python -m npt_viz experiment`, from a spec file to a table, a CSV and a report; and again without training."""

import csv
import json

import pytest

from npt_viz.__main__ import main
from npt_viz.experiments import running

SPEC = """
name = "from the command line"
model = {model}
text = {text}
steps = 4
seeds = [0, 1]
prompt = "abcdefg"
preset = "each loss alone"
only = ["direct", "guidance"]

[start]
layers = [2]
rank = 5

[recipe]
batch_tokens = 32
warmup = 2
"""


@pytest.fixture
def spec(on_disk, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat, and the dog did not. " * 40, encoding="utf-8")
    file = tmp_path / "spec.toml"
    file.write_text(
        SPEC.format(model=json.dumps(on_disk.model), text=json.dumps(str(text))), encoding="utf-8"
    )
    return file


@pytest.mark.slow
def test_from_a_spec_to_a_table_a_csv_and_a_report(spec, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    files = ["--csv", str(tmp_path / "a.csv"), "--html", str(tmp_path / "a.html")]
    assert main(["experiment", str(spec), "--out", str(out), "--json", *files]) == 0
    printed, said = capsys.readouterr()
    found = json.loads(printed)
    assert found["fair"] and found["reference"] == "direct" and len(found["runs"]) == 4
    assert "4 of 4: guidance, seed 1: finished" in said
    compared = {each["arm"]: each for each in found["comparisons"]["recovered"]}
    by_seed = {(run["arm"], run["seed"]): run["recovered"] for run in found["runs"]}
    difference = sum(by_seed["guidance", seed] - by_seed["direct", seed] for seed in (0, 1)) / 2
    assert compared["guidance"]["difference"] == pytest.approx(difference)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["recovered"]) for row in rows] == pytest.approx(
        [run["recovered"] for run in found["runs"]]
    )
    assert "from the command line" in (tmp_path / "a.html").read_text(encoding="utf-8")

    # The folder alone says the same, without training.
    monkeypatch.setattr(running, "Training", None)
    assert main(["experiment", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr()[0])
    assert again["runs"] == found["runs"]


def test_wrong_specs_and_shares_are_sentences(spec, tmp_path, capsys):
    spec.write_text(spec.read_text(encoding="utf-8").replace("rank = 5", "rank = 500"), encoding="utf-8")
    assert main(["experiment", str(spec), "--out", str(tmp_path / "x"), "--share", "3/2"]) == 2
    assert main(["experiment", str(tmp_path / "none.toml")]) == 1
    assert "no such file or folder" in capsys.readouterr()[1]


def test_a_part_of_the_runs_is_left_to_others(spec, tmp_path, capsys):
    assert main(["experiment", str(spec), "--out", str(tmp_path / "x"), "--share", "2/2"]) == 0
    printed, said = capsys.readouterr()
    assert printed == "" and "2 of 2: guidance, seed 1: finished" in said


def test_a_changed_spec_is_not_answered_with_what_another_found(spec, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["experiment", str(spec), "--out", out]) == 0
    spec.write_text(spec.read_text(encoding="utf-8").replace("steps = 4", "steps = 5"), encoding="utf-8")
    capsys.readouterr()
    assert main(["experiment", str(spec), "--out", out]) == 1
    printed, said = capsys.readouterr()
    assert printed == "" and "holds another experiment" in said


def test_why_a_run_failed_is_said(spec, tmp_path, capsys):
    text = spec.read_text(encoding="utf-8").replace('"guidance"]', '"orthogonality"]')
    text += '\n[[arms]]\nname = "literal"\nlosses = "orthogonality:as_written=1"\n'
    spec.write_text(text, encoding="utf-8")
    out = str(tmp_path / "out")
    assert main(["experiment", str(spec), "--out", out]) == 0
    said = capsys.readouterr()[1]
    assert "literal, seed 0: failed (layer 2" in said and "V.T" in said
    # Also where the folder is only read, or filled by other processes.
    for run in (tmp_path / "out" / "direct").iterdir():
        (run / "result.json").write_text('{"state": "failed", "error": "it was the cat"}', encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(running, "run_experiment", lambda *_, **__: iter(()))
        assert main(["experiment", out]) == 0
    assert "direct, seed 1 failed: it was the cat" in capsys.readouterr()[1]


def test_an_experiment_without_a_finished_run_is_no_success(spec, tmp_path, capsys):
    text = spec.read_text(encoding="utf-8").split('preset = "each')[0]
    text += "[start]\nlayers = [2]\nrank = 5\n[recipe]\nbatch_tokens = 32\n"
    text += "".join(f'[[arms]]\nname = "{n}"\nlosses = "orthogonality:as_written={n}"\n' for n in (1, 2))
    spec.write_text(text, encoding="utf-8")
    assert main(["experiment", str(spec), "--out", str(tmp_path / "out")]) == 1
    assert "no run of" in capsys.readouterr()[1].splitlines()[-1]


def test_files_that_cannot_be_written_are_named(spec, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["experiment", str(spec), "--out", out]) == 0
    for option in ("--csv", "--html"):
        nowhere = str(tmp_path / "nowhere" / "x")
        assert main(["experiment", out, option, nowhere]) == 1
        assert f"{nowhere}: cannot be written (No such file" in capsys.readouterr()[1]
    assert main(["experiment", out, "--share", "²/2"]) == 2
