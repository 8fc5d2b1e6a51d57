"""The Runs page: runs by path, by link and by upload, overlaid, with what is wrong with any of them."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from onpage import tables

from npt_viz.results.words import number

OFFLINE = Path(__file__).resolve().parents[2] / "runs" / "offline"


def log(folder, scale=1.0, steps=range(1, 41), config=None, **more):
    """A published log of 40 steps, with an evaluation after every tenth."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for step in steps:
        row = {
            "step": step,
            "total_loss": scale / step,
            "direct_mlp_loss": scale / step / 2,
            "fidelity_loss": 0.5,
        }
        lines.append(json.dumps(row | more))
        if step % 10 == 0:
            lines.append(json.dumps({"step": step, "val_loss": 2 * scale / step}))
    (folder / "training_log.jsonl").write_text("\n".join(lines) + "\n")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def own(folder, layers=(3, 7)):
    folder.mkdir(parents=True)
    header = {"format": "npt_viz steps, version 1", "name": folder.name, "settings": {"stage_steps": 8}}
    rows = [
        {
            "step": s,
            "layer": layer,
            "total": 1 / s,
            "seconds": s / 4,
            "n_tokens": 32,
            "share/direct": 0.75,
            "share/kl": 0.25,
        }
        | ({"heldout/recovered": s / 40} if s % 10 == 0 else {})
        for s in range(1, 31)
        for layer in layers
    ]
    (folder / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [header, *rows]))
    return str(folder)


@pytest.fixture
def page(app, tmp_path, monkeypatch):
    """page(paths…): the Runs page with these runs, and a runs/ folder of its own."""
    monkeypatch.setattr("npt_viz.ui.runs.controls.RUNS", tmp_path / "runs")

    def opened(*paths, **values):
        found = app("runs")
        assert not found.exception
        found.session_state["runs"] = list(paths)
        for key, value in values.items():
            found.session_state[key] = value
        return found.run()

    return opened


def charts(page) -> list[dict]:
    return [json.loads(each.proto.spec) for each in page.get("plotly_chart")]


def array(data) -> np.ndarray:
    """Plotly's arrays come as base64."""
    import base64

    if isinstance(data, dict):
        return np.frombuffer(base64.b64decode(data["bdata"]), np.dtype(data["dtype"]))
    return np.array(data)


def said(page) -> str:
    parts = [*page.markdown, *page.caption, *page.info, *page.error]
    return " ".join(each.value for each in parts).replace("\\", "")


def test_without_runs_the_page_says_what_to_do(page):
    found = page()
    assert not found.exception and not found.error and "Choose runs above" in said(found)
    assert not charts(found)


def test_the_page_needs_no_checkpoint_and_no_model(app):
    found = app("runs", model="a model that nobody has", checkpoint="")
    assert not found.exception and not found.error
    assert found.session_state["runs"] == ["demos/three-losses"] and "Of 9 curves" in said(found)


def test_two_runs_are_overlaid_in_two_colours_train_and_heldout_apart(page, tmp_path):
    found = page(log(tmp_path / "one"), log(tmp_path / "two", scale=3.0))
    assert not found.exception and not found.error
    heldout, training = charts(found)
    assert [line["name"] for line in training["data"]] == ["one", "two"]
    np.testing.assert_allclose(array(training["data"][1]["y"]), 3 / np.arange(1, 41))
    assert training["data"][0]["line"]["color"] != training["data"][1]["line"]["color"]
    assert [line["line"]["color"] for line in heldout["data"]] == [
        line["line"]["color"] for line in training["data"]
    ]
    assert array(heldout["data"][0]["x"]).tolist() == [10, 20, 30, 40]
    assert (
        "Of 2 curves `one` ends best in `heldout/total`: **0.05** at step 40; `two` ends worst, 0.15"
        in said(found)
    )
    (values,) = tables(found, "values of the runs")
    (row,) = (row for row in values.split("<tr>") if "two</td>" in row and ">total<" in row)
    assert number(3 / 40) in row


def test_columns_differ_by_dash_and_smoothing_leaves_the_raw_line_faint(page, tmp_path):
    found = page(log(tmp_path / "one"), runs_columns=["total", "loss/direct"], runs_smoothing=0.9)
    data = charts(found)[1]["data"]
    faint, total, _, direct = data
    assert (faint["opacity"], total["name"], direct["name"]) == (0.25, "one · total", "one · loss/direct")
    assert (
        total["line"]["dash"] != direct["line"]["dash"] and total["line"]["color"] == direct["line"]["color"]
    )
    raw, smooth = array(faint["y"]), array(total["y"])
    assert smooth[1] == pytest.approx((0.9 * raw[0] + raw[1]) / 1.9)


def test_log_axis_and_axis_along_tokens(page, tmp_path):
    tokens = {"batch_size": 4, "max_length": 8}
    found = page(log(tmp_path / "a", config=tokens), log(tmp_path / "b"), runs_x="tokens", runs_log=True)
    training = charts(found)[1]
    assert [line["name"] for line in training["data"]] == ["a"]
    assert array(training["data"][0]["x"])[:2].tolist() == [32, 64]
    assert training["layout"]["yaxis"]["type"] == "log"
    assert "Not along tokens: `b`" in said(found)


def test_our_own_runs_have_layers_shares_and_stage_lines(page, tmp_path):
    found = page(own(tmp_path / "arm"))
    assert not found.exception
    shown = charts(found)
    assert [line["name"] for line in shown[0]["data"]] == ["arm · layer 3", "arm · layer 7"]
    areas = shown[2]["data"]
    assert [each["name"] for each in areas] == ["direct", "kl"] and all(each["stackgroup"] for each in areas)
    assert {note["text"] for note in shown[1]["layout"]["annotations"]} == {"stage 2", "2S", "stage 3"}
    found.selectbox(key="runs_layer").select("7").run()
    assert [line["name"] for line in charts(found)[0]["data"]] == ["arm · layer 7"]


def test_runs_below_the_runs_folder_are_offered(page, tmp_path):
    own(tmp_path / "runs" / "experiment" / "arm" / "seed-0")
    found = page()
    assert any(option.endswith("arm/seed-0") for option in found.multiselect(key="runs").options)


def test_a_link_opens_the_same_view(app, tmp_path, monkeypatch):
    monkeypatch.setattr("npt_viz.ui.runs.controls.RUNS", tmp_path / "runs")
    runs = [log(tmp_path / "one"), log(tmp_path / "two")]
    found = app("runs", runs=runs, runs_log="true", runs_columns="loss/direct")
    assert not found.exception and not found.error, said(found)
    training = charts(found)[1]
    assert len(training["data"]) == 2 and training["layout"]["yaxis"]["type"] == "log"
    assert training["layout"]["yaxis"]["title"]["text"] == "loss/direct"


def test_an_uploaded_log_is_read_and_stays(page, tmp_path):
    found = page()
    log(tmp_path / "sent")
    data = (tmp_path / "sent" / "training_log.jsonl").read_bytes()
    found.file_uploader(key="runs_upload").set_value(("sent.jsonl", data, "application/jsonl")).run()
    assert not found.exception, said(found)
    assert [line["name"] for line in charts(found)[1]["data"]] == ["sent"]
    found.switch_page("pages/home.py").run()
    found.switch_page("pages/runs.py").run()
    assert [line["name"] for line in charts(found)[1]["data"]] == ["sent"]


def test_an_uploaded_table_of_several_runs_and_an_offline_run_are_read(page):
    offline = sorted(OFFLINE.glob("wandb/*/run-surgeon15.wandb"))[0]
    found = page(str(offline.parent))
    data = b"run,step,total_loss\nleft,1,2.0\nleft,2,1.0\nright,1,4.0\nright,2,3.0\n"
    found.file_uploader(key="runs_upload").set_value(("two.csv", data, "text/csv")).run()
    assert not found.exception and not found.error, said(found)
    assert [line["name"] for line in charts(found)[1]["data"]] == [
        "gate of layer 15 · all layers",
        "left",
        "right",
    ]
    assert "Their sum is the logged total" in said(found), "by the weights of the run's own config"


def test_what_is_wrong_with_one_run_is_a_sentence_and_the_others_are_shown(page, tmp_path):
    (tmp_path / "text.jsonl").write_text('{"text": "a story"}\n')
    good = log(tmp_path / "good", v_a_attention_similarity=0.0)
    with open(f"{good}/training_log.jsonl", "a") as file:
        file.write("{half a li")
    found = page(good, str(tmp_path / "nowhere"), str(tmp_path / "text.jsonl"), "upload: gone.jsonl")
    assert not found.exception and len(found.error) == 3
    text = said(found)
    assert "nowhere" in text and "none of its 1 lines is a step" in text
    assert "gone.jsonl was uploaded in another session" in text
    assert "1 line was skipped: line 45 (not finished)" in text
    assert "which means “not computed”" in text
    assert [line["name"] for line in charts(found)[1]["data"]] == ["good"]


def test_runs_of_one_name_are_told_apart(page, tmp_path):
    found = page(own(tmp_path / "a" / "seed-0", [3]), own(tmp_path / "b" / "seed-0", [3]))
    assert [line["name"] for line in charts(found)[1]["data"]] == ["a / seed-0", "b / seed-0"]


def test_a_folder_of_several_shows_them_all(page, tmp_path):
    for arm in ("one", "two"):
        for seed in (0, 1):
            own(tmp_path / "experiment" / arm / f"seed-{seed}", [3])
    found = page(str(tmp_path / "experiment"))
    names = [line["name"] for line in charts(found)[1]["data"]]
    assert names == ["one / seed-0", "one / seed-1", "two / seed-0", "two / seed-1"]


def test_a_log_that_grows_is_read_again(page, tmp_path):
    path = log(tmp_path / "live")
    found = page(path)
    log(tmp_path / "live", steps=range(1, 61))
    assert len(array(charts(found.run())[1]["data"][0]["x"])) == 60


def test_hostile_names_are_shown_as_text(page, tmp_path):
    found = page(own(tmp_path / "<img src=x onerror=alert(1)>", [3]))
    names = [line["name"] for chart in charts(found) for line in chart["data"]]
    assert not found.exception and "&lt;img src=x onerror=alert(1)&gt;" in names
    assert not any("<img" in name for name in names)


def test_the_csv_has_every_row(page, tmp_path):
    from npt_viz.runs import read_run

    frame = read_run(log(tmp_path / "one")).to_frame()
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    assert len(again) == 40 and math.isclose(again["total"].iloc[-1], 1 / 40)
    found = page(str(tmp_path / "one"))
    found.session_state["runs_carry"] = True
    found.run()
    labels = [each.proto.label for each in found.get("download_button")]
    assert labels[:3] == ["Report", "CSV", "Parquet"] and "HTML" in labels
