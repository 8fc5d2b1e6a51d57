"""npt_config.json is checked before it is believed: versions, layers, rules, damage."""

import json

import pytest
from conftest import specimen

from npt_viz import NptVizError, open_checkpoint
from npt_viz.checkpoint import save_checkpoint

PROSE = {"recipe": {}, "figures": {}, "licence": "CC0-1.0"}


@pytest.fixture
def native(tmp_path, tiny_llama):
    adapters = {1: specimen(tiny_llama, "N1", 1), 3: specimen(tiny_llama, "N4", 3)}
    return save_checkpoint(tmp_path / "native", adapters, tiny_llama, **PROSE)


def edited(folder, change) -> str:
    """The refusal after `change` was made to the config."""
    file = folder / "npt_config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))
    with pytest.raises(NptVizError) as caught:
        open_checkpoint(folder)
    message = str(caught.value)
    assert "npt_config.json" in message and "\n" not in message
    return message


def test_the_folder_its_config_and_its_weights_open_the_same(native):
    for path in (native, native / "npt_config.json", native / "npt_weights.safetensors"):
        checkpoint = open_checkpoint(path)
        assert (checkpoint.format, checkpoint.name, checkpoint.path) == ("native", "native", native)
        assert checkpoint.report.provenance == "from the file"


@pytest.mark.parametrize("version", [2, 0, None, "1", [1]])
def test_another_version_is_refused(native, version):
    assert "format_version" in edited(native, lambda config: config.update(format_version=version))


def test_a_layer_of_the_config_without_weights_is_noticed(native):
    message = edited(native, lambda config: config["layers"].update({"4": config["layers"]["3"]}))
    assert "['1', '3', '4']" in message and "['1', '3']" in message


def test_weights_without_an_entry_in_the_config_are_noticed(native):
    assert "the weights have ['1', '3']" in edited(native, lambda config: config["layers"].pop("1"))


@pytest.mark.parametrize("layers", [None, [], [1, 3], {"1": 5, "3": None}, {"1": {}, "3": {}}, {"one": {}}])
def test_nonsense_layers_are_refused(native, layers):
    edited(native, lambda config: config.update(layers=layers))


def test_a_rule_that_the_tensors_do_not_follow_is_refused(native):
    def to_tanh(config):
        config["layers"]["3"]["semantics"]["rule"] = "low_rank_tanh"

    assert "layer 3" in edited(native, to_tanh)


def test_sizes_that_the_weights_contradict_are_a_failed_claim(native):
    file = native / "npt_config.json"
    config = json.loads(file.read_text())
    config["layers"]["1"]["targets"]["gate"]["rank"] = 64
    file.write_text(json.dumps(config))
    report = open_checkpoint(native).report
    assert [claim.agrees for claim in report.claims] == [False, True]
    assert any("layers.1.targets" in warning for warning in report.warnings)


def test_the_choice_of_the_user_goes_before_the_file(native):
    report = open_checkpoint(native, semantics="N2").report
    assert [row.variant for row in report.layers] == ["N2", "N3"]
    assert report.provenance == "chosen by the user"
