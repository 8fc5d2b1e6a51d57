"""Home opens alone, says what is open, and shows bad input as one sentence."""

from pathlib import Path

from onpage import LAYERS, save_variant
from safetensors.torch import load_file, save_file


def texts(app) -> str:
    return "\n".join(str(each.value) for kind in ("markdown", "html", "caption") for each in app.get(kind))


def test_home_opens_alone_and_reports_what_it_opened(app):
    home = app()
    assert not home.exception and not home.error
    table = home.dataframe[0].value
    assert list(table["layer"]) == list(LAYERS)
    assert set(table["variant"]) == {"N5"} and set(table["NaN"]) == {0}
    assert "36 of 36" in texts(home)


def test_the_parity_checks_hold_and_are_listed(app):
    checks = app().table[0].value
    assert "NPT off = base" in checks.index
    assert set(checks["holds"]) == {"yes"}


def test_another_reading_of_the_layers_is_the_users_choice(app):
    home = app()
    home.selectbox(key="semantics").set_value("N3").run()
    assert not home.exception and not home.error
    assert set(home.dataframe[0].value["semantics"]) == {"chosen by the user"}
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
    assert list(home.dataframe[0].value["layer"]) == list(LAYERS)


def test_a_layer_that_does_not_exist_is_said_and_replaced(app):
    home = app(layer="4")
    assert "Layer 4 is no NPT layer" in home.warning[0].value
    assert home.session_state["layer"] == max(LAYERS)


def test_a_checkpoint_with_nan_is_reported_although_it_cannot_run(app, tiny_llama, tmp_path):
    folder = Path(save_variant(tmp_path / "nan", tiny_llama, "N5"))
    weights = load_file(folder / "npt_weights.safetensors")
    next(tensor for key, tensor in weights.items() if "layer_3" in key)[0, 0] = float("nan")
    save_file(weights, folder / "npt_weights.safetensors")
    home = app(checkpoint=str(folder))
    assert not home.exception
    assert "cannot run layer 3" in home.error[0].value.replace("\\", "")
    assert list(home.dataframe[0].value["NaN"]) == [0, 1]
    tokens = app("tokens", checkpoint=str(folder))
    tokens.button_group(key="head_running").set_value([1]).run()
    assert not tokens.error and any(each.value.startswith("Layer 1 ") for each in tokens.markdown)


def test_releasing_frees_the_model_until_it_is_opened_again(app):
    home = app()
    home.session_state["sidebar_memory"] = True
    home.run()
    home.button(key="memory_release").click().run()
    assert "released" in home.info[0].value
    assert not home.dataframe
    home.button(key="loading_reopen").click().run()
    assert not home.exception and home.dataframe


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
