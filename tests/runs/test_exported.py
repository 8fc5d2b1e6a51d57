"""CSV exports of other tools: wide, long and of several runs, each number where its run, column and step say."""

import csv
import io
import json
import math
import random

import numpy as np
import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npt_viz.errors import NptVizError
from npt_viz.runs import read_run, read_runs
from npt_viz.training.log import FORMAT


def table(header, rows, *, separator=",") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([header, *rows])
    return text.getvalue().encode()


def runs_of(content: bytes, name="exported.csv"):
    return {run.part or run.name: run for run in read_runs((name, content))}


def notes(run) -> str:
    return " ".join(run.notes)


@pytest.mark.parametrize(
    "step", ["step", "Step", "_step", "global_step", "trainer/global_step", "train/global_step"]
)
def test_a_wide_table_is_one_run_under_our_names(step):
    content = table(
        ["", step, "total_loss", "direct_mlp_loss", "val_loss", "_runtime", "note"],
        [[0, 1, 3.0, 0.5, "", 2.5, ""], [1, 4, "NaN", 0.25, "", 5.0, ""], [2, 9, 1.5, "", 0.125, 7.5, ""]],
    )
    (run,) = read_runs(("exported.csv", content))
    curves = run.layers[None]
    assert run.name == "exported" and run.part is None and run.format == "published"
    assert curves.steps.tolist() == [1, 4, 9]
    np.testing.assert_array_equal(curves.columns["total"], [3.0, math.nan, 1.5])
    np.testing.assert_array_equal(curves.columns["loss/direct"], [0.5, 0.25, math.nan])
    assert curves.measured("heldout/total")[0].tolist() == [9]
    assert curves.columns["seconds"].tolist() == [2.5, 5.0, 7.5]
    assert curves.gaps["total"].tolist() == [4]


def test_a_step_of_the_training_is_taken_before_the_counter_of_calls():
    content = table(
        ["_step", "global_step", "loss", "eval/loss"],
        [[0, 100, 3.0, ""], [1, "", "", 9.0], [2, 200, 1.0, ""]],
    )
    curves = read_run(("exported.csv", content)).layers[None]
    assert curves.steps.tolist() == [100, 200] and curves.columns["total"].tolist() == [3.0, 1.0]
    assert [v.tolist() for v in curves.measured("heldout/total")] == [[100], [9.0]]


def test_a_panel_of_wandb_is_several_runs_without_the_ranges_of_the_picture():
    names = ["gate - r 64", "up"]
    header = ["Step"]
    for name in names:
        for metric in ("total_loss", "_step", "layer_3_direct_mlp"):
            header += [f"{name} - {metric}{end}" for end in ("", "__MIN", "__MAX")]
    rows = [
        [step, *(v for n in (1, 2) for m in (1, 5, 9) for v in (n * m * step, -99, 99))] for step in (2, 3, 5)
    ]
    runs = runs_of(table(header, rows))
    assert list(runs) == names
    for n, name in enumerate(names, 1):
        assert runs[name].layers[None].columns["total"].tolist() == [2 * n, 3 * n, 5 * n]
        assert runs[name].layers[3].columns["loss/direct"].tolist() == [18 * n, 27 * n, 45 * n]
        assert not [column for column in runs[name].columns if "_" in column], "no range, no counter"
    assert read_run(("exported.csv", table(header, rows)), "up").layers[None].columns["total"][0] == 4


@pytest.mark.parametrize(
    ("axis", "seconds"),
    [
        ("Relative Time (Process)", [0.5, 1.0, 1.5]),
        ("Relative Time (Wall)", [0.5, 1.0, 1.5]),
        ("Wall Time", [0, 0.5, 1.0]),
        ("train/epoch", None),
    ],
)
def test_a_panel_along_another_axis_has_the_steps_of_its_own_columns(axis, seconds):
    header = [axis]
    for name in ("gate - r 64", "up"):
        for metric in ("_step", "total_loss"):
            header += [f"{name} - {metric}{end}" for end in ("", "__MIN", "__MAX")]
    rows = [
        [0.5, "10.4", "", "", 3.0, 1, 9, "", "", "", "", "", ""],
        [1.0, 21, "", "", 2.0, 1, 9, 7, 7, 7, 5.0, 1, 9],
        [1.5, 29.7, "", "", 1.0, 1, 9, 14, 14, 14, 4.0, 1, 9],
    ]
    runs = runs_of(table(header, rows))
    gate, up = runs["gate - r 64"].layers[None], runs["up"].layers[None]
    assert gate.steps.tolist() == [10, 21, 30] and gate.columns["total"].tolist() == [3, 2, 1]
    assert up.steps.tolist() == [7, 14] and up.columns["total"].tolist() == [5, 4]
    if seconds is None:
        assert set(gate.columns) == {"total"}
    else:
        assert gate.columns["seconds"].tolist() == seconds


def test_the_ranges_of_a_panel_without_run_names_are_left_out():
    content = table(
        ["Step", "total_loss", "total_loss__MIN", "total_loss__MAX"], [[1, 3.0, 2.0, 9.0], [4, 2.0, 1.0, 7.0]]
    )
    assert read_run(("exported.csv", content)).columns == ["total"]


def test_a_chart_of_mlflow_tells_runs_of_one_name_apart():
    """Columns of `chartMetricHistoryToCsv` in MLflow's CsvUtils.ts; grouped runs have no id."""
    rows = [
        ["gate", run, key, step, 1_795_841_874_000 + 2000 * step, factor / (step + 1)]
        for key, factor in (("total_loss", 2), ("val_loss", 7))
        for run in ("a1", "b2")
        for step in (0, 5, 11)
    ]
    runs = runs_of(table(["Run", "Run ID", "metric", "step", "timestamp", "value"], rows))
    assert list(runs) == ["gate", "gate (b2)"]
    for run in runs.values():
        curves = run.layers[None]
        assert curves.steps.tolist() == [0, 5, 11]
        np.testing.assert_array_equal(curves.columns["total"], [2, 2 / 6, 2 / 12])
        np.testing.assert_array_equal(curves.columns["heldout/total"], [7, 7 / 6, 7 / 12])
        assert curves.columns["seconds"].tolist() == [0, 10, 22]
    grouped = [["lr: 1", "", *row[2:]] for row in rows[:3]] + [["lr: 2", "", *row[2:]] for row in rows[:3]]
    assert list(runs_of(table(["Group", "Run ID", "metric", "step", "timestamp", "value"], grouped))) == [
        "lr: 1",
        "lr: 2",
    ]


def test_what_the_client_of_mlflow_gives_is_read():
    """Of mlflow-skinny 3.17.2: `dict(metric)` of each of `get_metric_history`, as a table."""
    content = b"""run_id,dataset_digest,dataset_name,key,model_id,step,timestamp,value
27cbf288ef72472689339118b92ee08f,,,total_loss,,0,1795841874352,3.0
27cbf288ef72472689339118b92ee08f,,,total_loss,,5,1795841874353,0.5
8334e784bd4f40f39a32727bdff9aba1,,,total_loss,,0,1795841874341,2.0
8334e784bd4f40f39a32727bdff9aba1,,,total_loss,,5,1795841874343,0.25
"""
    runs = runs_of(content)
    assert [run.layers[None].columns["total"].tolist() for run in runs.values()] == [[3.0, 0.5], [2.0, 0.25]]
    assert [sorted(run.columns) for run in runs.values()] == [["seconds", "total"]] * 2


def test_what_mlflow_exports_is_long_and_sorted_by_metric():
    rows = [
        [run, key, value * step, step, 1_700_000_000_000 + 1000 * step]
        for key, value in (("total_loss", 2), ("direct_mlp_loss", 7))
        for run in ("a1", "b2")
        for step in (1, 2, 3)
    ]
    runs = runs_of(table(["run_id", "key", "value", "step", "timestamp"], rows))
    assert list(runs) == ["a1", "b2"]
    for run in runs.values():
        curves = run.layers[None]
        assert curves.steps.tolist() == [1, 2, 3]
        assert curves.columns["total"].tolist() == [2, 4, 6]
        assert curves.columns["loss/direct"].tolist() == [7, 14, 21]
        assert curves.columns["seconds"].tolist() == [0, 1, 2]
        assert "back" not in notes(run)


def test_what_trackio_exports_of_a_plot_is_read():
    """The columns that `downloadCSV` of trackio 0.43's LinePlot.svelte writes: x, y, series_key, run."""
    rows = [[step, step / 7, key, name] for key, name in (("k1", "one"), ("k2", "two")) for step in (3, 5)]
    runs = runs_of(table(["step", "total_loss", "series_key", "run"], rows))
    assert {name: run.layers[None].columns["total"].tolist() for name, run in runs.items()} == {
        "one": [3 / 7, 5 / 7],
        "two": [3 / 7, 5 / 7],
    }
    assert runs["one"].columns == ["total"]


def test_the_order_of_rows_means_nothing_and_the_last_of_a_step_holds():
    rows = [[step, step * 1.5] for step in range(1, 300)]
    shuffled = random.Random(5).sample(rows, len(rows))
    curves = read_run(("exported.csv", table(["step", "loss"], [*shuffled, [7, 99.0]]))).layers[None]
    assert curves.steps.tolist() == list(range(1, 300))
    wanted = [99.0 if step == 7 else step * 1.5 for step in range(1, 300)]
    assert curves.columns["total"].tolist() == wanted
    run = read_run(("exported.csv", table(["step", "loss"], [*shuffled, [7, 99.0]])))
    assert "1 values stand for a step and column that stands there again" in notes(run)
    assert "resumed" not in notes(run) and "processes" not in notes(run)


def test_our_own_export_of_several_layers_and_runs_comes_back(tmp_path):
    frames, rows = [], []
    for name in ("arm one", "arm two"):
        lines = [{"format": FORMAT, "name": name, "settings": {}}]
        for step in (1, 2, 3):
            for layer in (3, 11):
                values = {
                    "total": layer / step,
                    "loss/direct": step / 7,
                    "n_tokens": 32,
                    "seconds": 0.25 * step,
                }
                heldout = {"heldout/recovered": 0.1 * layer} if step == 2 else {}
                lines.append({"step": step, "layer": layer, **values, **heldout})
        (tmp_path / name).mkdir()
        (tmp_path / name / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        rows.append(read_run(tmp_path / name))
        frames.append(rows[-1].to_frame())
    back = runs_of(pandas.concat(frames, ignore_index=True).to_csv(index=False).encode())
    assert list(back) == ["arm one", "arm two"]
    for run in rows:
        each = back[run.name]
        assert each.format == "npt_viz" and list(each.layers) == list(run.layers) == [3, 11]
        for layer, curves in run.layers.items():
            assert each.layers[layer].steps.tolist() == curves.steps.tolist()
            assert set(each.layers[layer].columns) == set(curves.columns)
            for name, values in curves.columns.items():
                np.testing.assert_array_equal(each.layers[layer].columns[name], values, err_msg=name)


def test_stages_in_a_table_are_marks():
    rows = [[step, 1.0, "teacher" if step < 5 else "mixed"] for step in (8, 2, 5, 1)]
    run = read_run(("exported.csv", table(["step", "loss", "curriculum_stage"], rows)))
    assert run.marks == ((5, "mixed"),)


@pytest.mark.parametrize(
    ("encode", "said"),
    [
        (lambda text: text.encode("utf-8-sig"), ""),
        (lambda text: text.encode("utf-16"), ""),
        (lambda text: text.encode("latin-1"), "no UTF-8"),
        (lambda text: text.replace("\n", "\r\n").encode(), ""),
        (lambda text: text.replace(",", "\t").encode(), ""),
        (lambda text: text.replace(",", ";").replace(".", ",").encode(), ""),
    ],
)
def test_spreadsheets_of_other_countries_and_encodings_are_read(tmp_path, encode, said):
    text = "run,step,total_loss\nmüller,1,0.5\nmüller,2,0.25\n"
    (tmp_path / "exported.csv").write_bytes(encode(text))
    (run,) = read_runs(tmp_path / "exported.csv")
    assert run.layers[None].columns["total"].tolist() == [0.5, 0.25]
    assert (said in notes(run)) and (said or run.name == "müller")


def test_text_in_the_place_of_numbers_is_counted_and_the_first_named():
    content = table(
        ["step", "total_loss", "x"], [[1, 2.0, '=HYPERLINK("http://x")'], [2, "=1+1", 3], [3, 1.0, "1_0"]]
    )
    run = read_run(("exported.csv", content))
    curves = run.layers[None]
    assert curves.measured("total")[0].tolist() == [1, 3] and curves.measured("x")[0].tolist() == [2]
    assert "3 cells are text and no number" in notes(run) and "row 2, column x" in notes(run)


def test_rows_that_cannot_be_read_are_skipped_counted_and_named():
    content = table(["step", "loss"], [[1, 2.0], ["one", 2.0], [-3, 1.0], [2, 1.0, 7], [4], [5, 0.5]])
    content += b'6,"' + b"x" * 2**20 + b'"\n7,0.25\n'
    run = read_run(("exported.csv", content))
    assert run.layers[None].steps.tolist() == [1, 5, 7]
    assert run.skipped == 5
    for said in (
        "row 3 (no step in it)",
        "row 4 (no step in it)",
        "row 5 (more fields than the header)",
        "row 6 (no numbers in it)",
        "row 8 (a field of more than 128 kB)",
    ):
        assert said in notes(run)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is an empty file"),
        (b"\n\n", "is an empty file"),
        (b"Name,State,total_loss\nrun,finished,1.0\n", "has no column of steps (step, global_step"),
        (b"Run,Run ID,total_loss,lr\na,1,2.0,0.1\n", "a table of runs with one value each"),
        (
            b"run_id,experiment_id,status,metrics.val_loss,tags.mlflow.runName\n27c,0,FINISHED,3.0,up\n",
            "a table of runs with one value each",
        ),
        (b"Relative Time (Process),up - loss,up - loss__MIN\n1,2,3\n", "choose Step as the panel's x axis"),
        (b"Name,Value\na,1\n", "has no column of steps"),
        (b"step,loss\n", "none of its 0 rows has a step and a number"),
        (b"step,loss\nx,y\n", "none of its 1 rows has a step and a number"),
        (b"x" * 2**20 + b",step\n1,2\n", "its header has a name of more than"),
        (b"step," + b"x," * 6000 + b"\n", "has 6,002 columns"),
        (b'step,"loss\n1,2\n', "none of its"),
        (b"run,step,loss\n" + b"".join(b"r%d,1,2\n" % i for i in range(300)), "holds more than 200 runs"),
        (b"\x00" * 500, "has no column of steps"),
    ],
)
def test_a_table_that_is_no_run_is_a_sentence(content, sentence):
    with pytest.raises(NptVizError) as error:
        read_runs(("exported.csv", content))
    assert sentence in str(error.value) and "exported.csv" in str(error.value) and len(str(error.value)) < 500


def test_a_table_of_too_many_numbers_is_a_sentence(monkeypatch):
    monkeypatch.setattr("npt_viz.runs.exported.MOST_CELLS", 5)
    with pytest.raises(NptVizError, match="holds more than 5 numbers"):
        read_run(("exported.csv", table(["step", "a", "b"], [[1, 2, 3], [2, 3, 4], [3, 4, 5]])))


def test_a_file_of_several_runs_names_them(tmp_path):
    content = table(["run", "step", "loss"], [["a", 1, 2.0], ["b", 1, 3.0]])
    (tmp_path / "two.csv").write_bytes(content)
    with pytest.raises(
        NptVizError, match=r"two.csv holds 2 runs; its runs are a, b: give the name of one as `run`"
    ):
        read_run(tmp_path / "two.csv")
    with pytest.raises(NptVizError, match="has no run 'c'"):
        read_run(tmp_path / "two.csv", run="c")
    assert read_run(tmp_path / "two.csv", run="b").layers[None].columns["total"].tolist() == [3.0]
    with pytest.raises(NptVizError, match=r"of its 1 CSV files name one, for example .*two.csv"):
        read_run(tmp_path)


def test_a_jsonl_under_the_name_of_a_table_is_a_jsonl():
    assert read_run(("log.csv", b'{"step": 1, "total_loss": 2.0}\n')).columns == ["total"]


@given(
    st.one_of(
        st.binary(max_size=300), st.text(alphabet='step,lou01.;\t"\n- =é', max_size=300).map(str.encode)
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_content_is_more_than_a_run_or_a_sentence(content):
    for each in (content, b"step,loss\n" + content, b"run_id,key,value,step,timestamp\n" + content):
        try:
            runs = read_runs(("exported.csv", each))
        except NptVizError as error:
            assert "exported.csv" in str(error)
        else:
            assert all(run.layers for run in runs)
