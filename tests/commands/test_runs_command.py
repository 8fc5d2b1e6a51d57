"""python -m npt_viz runs: table, JSON, CSV."""

import json

import pandas as pd
import pytest

from npt_viz.__main__ import main


@pytest.fixture
def log(tmp_path):
    rows = [{"step": s, "total_loss": 1 / s, "direct_mlp_loss": s / 10, "v_a_norm": 3.0} for s in range(1, 8)]
    (tmp_path / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{")
    return str(tmp_path)


def test_json_alone_on_stdout(log, capsys):
    assert main(["runs", log, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["last_step"], found["skipped"], found["format"]) == (7, 1, "published")
    values = {each["column"]: each for each in found["values"]}
    assert set(values) == {"total", "loss/direct"}
    assert (values["loss/direct"]["last"], values["loss/direct"]["best_step"]) == (0.7, 1)
    assert values["total"]["best"] == pytest.approx(1 / 7)


def test_a_table_for_people_and_the_notes_beside_it(log, capsys):
    assert main(["runs", log, log]) == 0
    out, err = capsys.readouterr()
    assert out.count("loss/direct") == 2 and "0.143" in out
    assert "norms of the whole batch" in err and "1 line was skipped" in err


def test_csv_has_every_row_of_every_run(log, tmp_path, capsys):
    assert main(["runs", log, log, "--csv", str(tmp_path / "all.csv")]) == 0
    frame = pd.read_csv(tmp_path / "all.csv")
    assert len(frame) == 14 and frame["loss/direct"].iloc[6] == 0.7
    assert main(["runs", log, "--csv", str(tmp_path / "no" / "all.csv")]) == 1
    assert "all.csv: cannot be written (No such file" in capsys.readouterr().err


def test_a_bad_path_is_one_sentence_and_status_1(tmp_path, capsys):
    assert main(["runs", str(tmp_path / "nowhere")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "nowhere: no such file or folder" in err


def test_a_folder_of_several_runs_is_all_of_them(log, tmp_path, capsys):
    for name in ("b", "a"):
        (tmp_path / "all" / name).mkdir(parents=True)
        (tmp_path / "all" / name / "training_log.jsonl").write_text('{"step": 1, "total_loss": 2}')
    assert main(["runs", str(tmp_path / "all"), "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["a", "b"]


def test_each_run_of_a_table_is_told_apart_and_comes_back_from_the_csv(tmp_path, capsys):
    (tmp_path / "two.csv").write_text("run,step,total_loss\na,1,2.0\nb,1,3.0\nb,2,1.0\n")
    assert main(["runs", str(tmp_path / "two.csv"), "--json", "--csv", str(tmp_path / "again.csv")]) == 0
    found = {each["part"]: each["values"] for each in json.loads(capsys.readouterr().out)}
    assert {name: values[0]["last"] for name, values in found.items()} == {"a": 2.0, "b": 1.0}
    assert main(["runs", str(tmp_path / "again.csv"), "--json"]) == 0
    again = {each["part"]: each["values"] for each in json.loads(capsys.readouterr().out)}
    assert again == found
