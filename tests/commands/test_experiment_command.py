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
    assert "does not exist" in capsys.readouterr()[1]


def test_a_part_of_the_runs_is_left_to_others(spec, tmp_path, capsys):
    assert main(["experiment", str(spec), "--out", str(tmp_path / "x"), "--share", "2/2"]) == 0
    printed, said = capsys.readouterr()
    assert printed == "" and "2 of 2: guidance, seed 1: finished" in said
