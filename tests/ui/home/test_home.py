"""Home opens alone, says what is open, and shows bad input as one sentence."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

from onpage import LAYERS, html_tables, save_variant
from safetensors.torch import load_file, save_file

from npt_viz.analysis.health import health
from npt_viz.capture.opening import open_checkpoint
from npt_viz.model.opening import open_model
from npt_viz.results.health import Finding, HealthReport
from npt_viz.ui.home.panels import health_tile


def texts(app) -> str:
    return "\n".join(str(each.value) for kind in ("markdown", "html", "caption") for each in app.get(kind))


def layers_of(app) -> list[dict[str, str]]:
    return html_tables(app)["layers of the file"]


def trust(app) -> dict[str, tuple[str, str]]:
    """Label of each fact -> whether it is good or bad, and what it says."""
    (row,) = (each.value for each in app.get("html") if 'class="npt-trust"' in each.value)
    tiles = re.findall(r'<div class="(\w*)" title="[^"]*"><span>(.*?)</span><b>(.*?)</b>', row)
    return {label: (state, value) for state, label, value in tiles}


def test_home_opens_alone_and_reports_what_it_opened(app):
    home = app()
    assert not home.exception and not home.error
    table = layers_of(home)
    assert [row["layer"] for row in table] == list(map(str, LAYERS))
    assert {row["variant"] for row in table} == {"N5"} and {row["NaN"] for row in table} == {"0"}
    assert "36 of 36" in texts(home)


def test_the_parity_checks_hold_and_are_listed(app):
    checks = html_tables(app())["parity checks"]
    assert "NPT off = base" in {row["check"] for row in checks}
    assert {row["holds"] for row in checks} == {"yes"}


def test_another_reading_of_the_layers_is_the_users_choice(app):
    home = app()
    home.selectbox(key="semantics").set_value("N3").run()
    assert not home.exception and not home.error
    assert {row["semantics"] for row in layers_of(home)} == {"chosen by the user"}
    assert home.query_params["semantics"] == "N3"


def test_a_missing_checkpoint_is_a_sentence_and_the_head_stays(app):
    home = app(checkpoint="no/such/*place*")
    assert not home.exception
    assert len(home.error) == 1 and r"\*place\*" in home.error[0].value
    assert home.selectbox(key="checkpoint").options, "another one can be chosen"


def test_an_uploaded_file_is_opened_and_earlier_choices_are_forgotten(app, on_disk):
    weights = (Path(on_disk.checkpoint) / "npt_weights.safetensors").read_bytes()
    home = app(on="1", semantics="N3", layer="1")
    home.file_uploader(key="upload").set_value(
        ("../<b>up*.safetensors", weights, "application/octet-stream")
    ).run()
    home.button(key="upload_open").click().run()
    assert not home.exception and not home.error
    state = home.session_state
    assert Path(state["checkpoint"]).name == "_b_up_.safetensors"
    assert (state["on"], state["semantics"]) == ([], "")
    assert [row["layer"] for row in layers_of(home)] == list(map(str, LAYERS))


def test_a_layer_that_does_not_exist_is_said_and_replaced(app):
    home = app(layer="4")
    assert "Layer 4: no NPT layer" in home.warning[0].value
    assert home.session_state["layer"] == max(LAYERS)


def test_a_checkpoint_with_nan_is_reported_although_it_cannot_run(app, tiny_llama, tmp_path):
    folder = Path(save_variant(tmp_path / "nan", tiny_llama, "N5"))
    weights = load_file(folder / "npt_weights.safetensors")
    next(tensor for key, tensor in weights.items() if "layer_3" in key)[0, 0] = float("nan")
    save_file(weights, folder / "npt_weights.safetensors")
    home = app(checkpoint=str(folder))
    assert not home.exception
    assert "cannot run layer 3" in home.error[0].value.replace("\\", "")
    assert [row["NaN"] for row in layers_of(home)] == ["0", "1"]
    assert trust(home)["Health"] == ("bad", "a value is NaN or infinite")
    tokens = app("tokens", checkpoint=str(folder))
    tokens.button_group(key="head_running").set_value([1]).run()
    assert not tokens.error and any(each.value.startswith("Layer 1 ") for each in tokens.markdown)


def test_releasing_frees_the_model_until_it_is_opened_again(app):
    home = app()
    home.session_state["sidebar_memory"] = True
    home.run()
    home.button(key="memory_release").click().run()
    assert "released" in home.info[0].value
    assert not html_tables(home)
    home.button(key="loading_reopen").click().run()
    assert not home.exception and layers_of(home)


def test_without_any_checkpoint_the_app_says_what_to_do(app, monkeypatch):
    monkeypatch.setattr("npt_viz.ui.shell.found.checkpoints_here", list)
    home = app(checkpoint="")
    assert not home.exception
    assert "no checkpoint is open" in home.error[0].value.replace("\\", "")
    assert "checkpoint" not in home.query_params or home.query_params["checkpoint"] == ""


def test_the_other_stages_of_a_run_are_one_click_away(app, on_disk, tmp_path):
    weights = load_file(Path(on_disk.checkpoint) / "npt_weights.safetensors")
    for stage in ("checkpoint-best", "checkpoint-final"):
        (tmp_path / stage).mkdir()
        save_file(weights, tmp_path / stage / "model.safetensors")
    home = app(checkpoint=str(tmp_path))
    assert r"checkpoint\-best is open. The same run" in texts(home)
    home.button(key=f"home_stage_{tmp_path / 'checkpoint-final'}").click().run()
    assert not home.exception and not home.error
    assert home.session_state["checkpoint"] == str(tmp_path / "checkpoint-final")


def test_health_is_named_at_load_without_a_click(app):
    home = app()
    state, value = trust(home)["Health"]
    assert state == "bad" and value == home_findings(home)[0].title
    assert "home_health_run" in {each.key for each in home.button}, "the whole examination is asked for"


def home_findings(home):
    model = open_model(home.session_state["model"])
    checkpoint = open_checkpoint(Path(home.session_state["checkpoint"]), model)
    return health(model, checkpoint, quick=True).findings


def test_a_fault_that_the_file_states_stands_at_the_top_and_nothing_is_all_green_over_it(
    app, on_disk, tmp_path
):
    folder = tmp_path / "stated"
    shutil.copytree(on_disk.checkpoint, folder)
    config = json.loads((folder / "npt_config.json").read_text())
    (folder / "npt_config.json").write_text(json.dumps(config | {"fault": "made <i>badly</i>"}))
    home = app(checkpoint=str(folder))
    (said,) = [each.value for each in home.get("html") if 'class="npt-fault"' in each.value]
    assert "made &lt;i&gt;badly&lt;/i&gt;" in said
    assert trust(home)["Health"][0] == "bad"


def test_health_is_green_only_where_all_was_looked_at_and_nothing_is_known():
    def tile(n_seen: int, *, fault: str = "", findings: tuple[Finding, ...] = ()):
        layers = tuple(SimpleNamespace(layer=i) for i in range(6))
        report = SimpleNamespace(layers=layers, stated_fault=fault)
        found = HealthReport(
            model="m", checkpoint="c", layers=tuple(range(n_seen)), findings=findings, n_tokens=40, n_sinks=1,
            n_sequences=1, seconds=0.0,
        )  # fmt: skip
        return health_tile(report, found, False).state

    warning = Finding(rule="parity", severity="warning", layer=3, evidence={}, meaning="", action="")
    assert tile(6) == "good"
    assert tile(4) == ""
    assert tile(6, fault="known") == "bad"
    assert tile(6, findings=(warning,)) == "doubtful"
    assert health_tile(SimpleNamespace(layers=(), stated_fault=""), None, False).state == ""
    assert health_tile(SimpleNamespace(layers=(), stated_fault="known"), None, False).state == "bad"
