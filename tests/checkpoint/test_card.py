"""Model cards: what the hub reads of them, what they say, and that nobody's own text is lost."""

import json
import re

import pytest
from conftest import specimen
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load

from npt_viz import NptVizError, convert, open_checkpoint
from npt_viz.checkpoint import save_checkpoint
from npt_viz.checkpoint.card import checkpoint_card, front_matter, hub_id_of, plain
from npt_viz.places import ROOT

FIGURES = {
    "heldout": {"2": {"layer": 2, "recovered": 0.8125, "relative_error": 0.375, "n_tokens": 1234}},
    "seconds": 7.5,
}
RECIPE = {"steps": 1500, "positions": "trained", "weights": {"kl": 0.25}, "split": {"openings": "ab " * 500}}


def saved(tmp_path, model, **more):
    stated = {"recipe": RECIPE, "figures": FIGURES, "licence": "CC0-1.0"} | more
    return save_checkpoint(tmp_path / "gate-2", {2: specimen(model, "N4", 2)}, model, **stated)


def test_a_saved_checkpoint_has_a_card_whose_metadata_the_hub_reads(tmp_path, tiny_llama):
    folder = saved(tmp_path, tiny_llama)
    metadata = metadata_load(folder / "README.md")
    assert metadata["license"] == "cc0-1.0" and metadata["library_name"] == "npt_viz"
    assert set(metadata["tags"]) >= {"npt", "npt_viz"} and "base_model" not in metadata, (
        "it is in memory only"
    )
    text = ModelCard.load(folder / "README.md").text
    for said in (
        "# gate-2",
        "layer 2",
        "| 2 | 0.8125 | 0.375 |  | 1234 |",
        "with trained positions",
        "| weights.kl | 0.25 |",
    ):
        assert said in text
    assert "rank_one_sum" in text and "ab ab" not in text and "Deliberately bad" not in text


def test_a_card_is_no_unknown_file_of_a_checkpoint(tmp_path, tiny_llama):
    folder = saved(tmp_path, tiny_llama)
    with_card = open_checkpoint(folder, tiny_llama).report
    (folder / "README.md").unlink()
    without = open_checkpoint(folder, tiny_llama).report
    assert with_card == without and with_card.warnings == without.warnings


def test_a_new_card_takes_the_place_of_ours_and_of_nobody_elses(tmp_path, tiny_llama):
    folder = saved(tmp_path, tiny_llama)
    assert "| steps | 1500 |" in (folder / "README.md").read_text()
    saved(tmp_path, tiny_llama, recipe={"steps": 7}, overwrite=True)
    assert "| steps | 7 |" in (folder / "README.md").read_text()
    (folder / "README.md").write_text("# My own words\n")
    saved(tmp_path, tiny_llama, recipe={"steps": 8}, overwrite=True)
    assert (folder / "README.md").read_text() == "# My own words\n"
    assert json.loads((folder / "npt_config.json").read_text())["recipe"]["steps"] == 8


def test_a_conversion_carries_the_card_of_what_is_known(tmp_path, tiny_llama):
    folder = saved(tmp_path, tiny_llama, fault="wrong on purpose")
    convert(folder, tmp_path / "again", model=tiny_llama)
    text = (tmp_path / "again" / "README.md").read_text()
    assert "Deliberately bad:** wrong on purpose" in text and "| 2 | 0.8125 |" in text
    convert(folder, tmp_path / "as-a", "A")
    assert not (tmp_path / "as-a" / "README.md").exists()


def test_a_card_that_cannot_be_written_leaves_no_folder(tmp_path, tiny_llama, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("npt_viz.checkpoint.saving.checkpoint_card", full)
    with pytest.raises(NptVizError, match="No space left"):
        saved(tmp_path, tiny_llama)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("base", "hub_id"),
    [
        ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("meta-llama/Llama-3.2-1B@abc123", "meta-llama/Llama-3.2-1B"),
        ("/home/me/secret/model", None),
        ("tiny", None),
        (None, None),
    ],
)
def test_only_a_hub_id_is_named_as_the_base(base, hub_id):
    assert hub_id_of(base) == hub_id
    text = checkpoint_card({"base": {"name": base}, "layers": {}}, "a name")
    assert ("base_model:" in text) == (hub_id is not None) and "/home/me" not in text


def test_a_relative_folder_is_no_hub_id(tmp_path, monkeypatch):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_id_of("models/mine") is None and hub_id_of("models/other") == "models/other"


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("not stated", {}),
        (None, {}),
        ('My "own": terms\n- x', {"license": "other", "license_name": "my-own-terms-x"}),
    ],
)
def test_a_licence_has_the_hubs_name_or_is_other(tmp_path, licence, fields):
    matter = front_matter(base_model=None, relation="adapter", licence=licence, tags=["a: b", "c"])
    (tmp_path / "README.md").write_text(matter + "\n")
    metadata = metadata_load(tmp_path / "README.md")
    assert {name: metadata[name] for name in metadata if name.startswith("license")} == fields
    assert metadata["tags"] == ["a: b", "c"]


BECOMES_A_LINK = r"(?i)://|www\.|\w@\w|mailto:"


def without_code(card: str) -> str:
    """A card without its front matter, and without what is code in it."""
    body = card.split("\n---\n", 1)[1]
    body = re.sub(r"^```python$.*?^```$", "", body, flags=re.S | re.M)
    return re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", body)


def test_what_a_config_says_cannot_be_more_than_text():
    hostile = "<script>x</script> | [link](http://x) `code` \n# heading \n---\nlicense: mit"
    config = {"fault": hostile, "recipe": {hostile: hostile}, "figures": [1], "base": [2], "layers": {}}
    text = checkpoint_card(config, hostile)
    assert "<script>" not in text and "\n# heading" not in text
    assert not re.search(r"(?<!\\)\]\(", without_code(text)), "no link"
    assert text.count("\n---\n") == 1
    assert plain("a|b\nc") == "a\\|b c"


@pytest.mark.parametrize(
    "text",
    [
        "see https://evil.example/x",
        "HTTP://a.b",
        "www.evil.example",
        "a@evil.example",
        "mailto:a",
        "`` http://a|b ``",
    ],
)
def test_an_address_in_a_setting_is_code_and_no_link(text):
    card = checkpoint_card({"base": {"name": text}, "licence": text, "recipe": {"note": text}}, text)
    assert re.search(BECOMES_A_LINK, card) and not re.search(BECOMES_A_LINK, without_code(card))


@pytest.mark.parametrize(
    "layers", [3, [], {"2": 3}, {"2": {}}, {"2": {"semantics": {"rule": "N4"}, "targets": {"gate": 1}}}]
)
def test_a_card_of_a_damaged_config_says_what_is_not_recorded(layers):
    card = checkpoint_card({"layers": layers}, "gate-2")
    assert card.count("not recorded") >= (5 if isinstance(layers, dict) else 1)


def test_the_demo_checkpoints_have_the_cards_of_their_configs():
    folders = [path.parent for path in sorted((ROOT / "checkpoints").glob("*/npt_config.json"))]
    assert len(folders) >= 4
    for folder in folders:
        config = json.loads((folder / "npt_config.json").read_text())
        assert (folder / "README.md").read_text() == checkpoint_card(config, folder.name)
