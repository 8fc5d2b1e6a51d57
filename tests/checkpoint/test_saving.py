"""What was saved comes back bit for bit; what could not be saved whole is not there at all."""

import json
import os
import stat

import pytest
import torch
from conftest import specimen
from handmade import NP_COMPONENT, S0, S1, S2, format_a, format_b, format_c
from safetensors.torch import load_file, save_file

from npt_viz import NptVizError, convert, open_checkpoint
from npt_viz.adapter import VARIANTS, Semantics, random_adapter
from npt_viz.checkpoint import save_checkpoint, saving

PROSE = {"recipe": {"steps": 1500, "seed": 0}, "figures": {"recovered": 0.41}, "licence": "CC0-1.0"}


def same_bits(one, other) -> bool:
    return one.dtype == other.dtype and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )


def assert_same_adapter(one, other):
    assert one.semantics == other.semantics and one.targets == other.targets
    found, expected = dict(one.named_parameters()), dict(other.named_parameters())
    assert found.keys() == expected.keys()
    for name in expected:
        assert same_bits(found[name].detach(), expected[name].detach()), name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("components", [1, 3])
def test_every_variant_comes_back_bit_for_bit(tmp_path, tiny_llama, variant, components):
    saved = specimen(tiny_llama, variant, 2, components=components)
    folder = save_checkpoint(tmp_path / "saved", {2: saved}, tiny_llama, **PROSE)
    opened = open_checkpoint(folder, tiny_llama)
    assert_same_adapter(opened.adapter(2), saved)
    assert (opened.report.semantics, opened.report.provenance) == (variant, "from the file")
    assert opened.report.unused == () and all(claim.agrees for claim in opened.report.claims)


RULES = ("additive", "additive_multiplicative", "low_rank_tanh", "rank_one_sum")
TARGET_SETS = (("up",), ("gate", "up"), ("down",), ("gate", "up", "down"))


@pytest.mark.parametrize(
    ("rule", "targets"),
    [
        (rule, targets)
        for rule in RULES
        for targets in TARGET_SETS
        if rule != "low_rank_tanh" or "down" not in targets
    ],
)
def test_every_rule_can_sit_on_every_target(tmp_path, tiny_llama, rule, targets):
    """But T1 on down, which has no form."""
    factor = "one_plus_tanh" if rule == "additive_multiplicative" else None
    semantics = Semantics(rule=rule, factor=factor, scale=0.7, attention="beside")
    saved = random_adapter(2, semantics, targets, d_model=24, d_ffn=31, rank=7, components=3)
    folder = save_checkpoint(tmp_path / "saved", {2: saved}, tiny_llama, **PROSE)
    assert_same_adapter(open_checkpoint(folder, tiny_llama).adapter(2), saved)


def test_layers_with_different_semantics_share_a_file(tmp_path, tiny_llama):
    saved = {i: specimen(tiny_llama, name, i) for i, name in enumerate(("N2", "S0", "S1-later", "T1", "N5"))}
    folder = save_checkpoint(tmp_path / "saved", saved, tiny_llama, **PROSE)
    opened = open_checkpoint(folder, tiny_llama)
    for layer in saved:
        assert_same_adapter(opened.adapter(layer), saved[layer])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_the_rounded_value_and_half_the_size(tmp_path, tiny_llama, dtype):
    saved = specimen(tiny_llama, "N5", 2)
    folder = save_checkpoint(tmp_path / "saved", {2: saved}, tiny_llama, dtype=dtype, **PROSE)
    opened = open_checkpoint(folder, tiny_llama)
    for mine, theirs in zip(opened.adapter(2).parameters(), saved.parameters(), strict=True):
        assert torch.equal(mine, theirs.detach().to(getattr(torch, dtype)).float())
    assert opened.report.layers[0].bytes == 2 * sum(p.numel() for p in saved.parameters())


def test_existing_tools_find_format_a_names(tmp_path, tiny_llama):
    saved = specimen(tiny_llama, "N4", 2, components=2)
    folder = save_checkpoint(tmp_path / "saved", {2: saved}, tiny_llama, **PROSE)
    weights = load_file(folder / "npt_weights.safetensors")
    assert set(weights) == set(format_a(2, ("gate", "up"), components=2))
    assert torch.equal(weights["layer_2_np.W_a_up_up.1"], saved.modulations["up"].W_a_up[1].detach())


def test_the_config_says_what_the_contract_asks(tmp_path, tiny_llama):
    saved = {3: specimen(tiny_llama, "N4", 3, components=2)}
    folder = save_checkpoint(tmp_path / "saved", saved, tiny_llama, fault="trained without RoPE", **PROSE)
    config = json.loads((folder / "npt_config.json").read_text())
    assert config["format_version"] == 1 and config["fault"] == "trained without RoPE"
    assert config["recipe"] == PROSE["recipe"] and config["figures"] == PROSE["figures"]
    assert config["licence"] == "CC0-1.0"
    assert config["base"]["name"] == "tiny" and config["base"]["fingerprint"] == tiny_llama.fingerprint([3])
    assert config["layers"]["3"]["semantics"] == {
        "rule": "rank_one_sum",
        "attention": "withheld",
        "scale": 1.0,
        "factor": None,
    }
    size = {"rank": 7, "components": 2}
    assert config["layers"]["3"]["targets"] == {"gate": size, "up": size}
    assert open_checkpoint(folder).config == config
    assert any("trained without RoPE" in warning for warning in open_checkpoint(folder).report.warnings)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_still_at_its_initialisation_is_exact_where_hashes_were_kept(tmp_path, tiny_llama, dtype):
    """W_down trained by one ulp, the rest untouched: only the rest is reported."""
    initial = {2: specimen(tiny_llama, "N1", 2, components=1)}
    trained = {2: specimen(tiny_llama, "N1", 2, components=1)}
    with torch.no_grad():
        weights = trained[2].modulations["gate"].W_down
        weights[0, 3, 5] = weights[0, 3, 5] * (1 + 2**-7)
    folder = save_checkpoint(tmp_path / "saved", trained, tiny_llama, initial=initial, dtype=dtype, **PROSE)
    [row] = open_checkpoint(folder).report.layers
    rule = "equal to its recorded initial value"
    assert row.at_initialisation == {"layer_2_np.W_a_up": rule, "layer_2_np.W_b_up": rule}


def test_a_saved_folder_can_be_read_by_others(tmp_path, tiny_llama):
    umask = os.umask(0o022)
    try:
        folder = save_checkpoint(tmp_path / "a" / "b", {2: specimen(tiny_llama, "N1")}, tiny_llama, **PROSE)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def no_space(*_, **__):
    raise OSError(28, "No space left on device")


def interrupted(*_, **__):
    raise KeyboardInterrupt


def half_written(tensors, file, **_):
    """Part of the file is on the disk when the process is interrupted."""
    file.write_bytes(b"half a fi")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("at", "failing", "error"),
    [("save_file", half_written, KeyboardInterrupt)]
    + [(at, no_space, NptVizError) for at in ("save_file", "write_text", "rename")]
    + [(at, interrupted, KeyboardInterrupt) for at in ("save_file", "write_text", "rename")],
)
def test_a_save_that_fails_leaves_nothing(tmp_path, tiny_llama, monkeypatch, at, failing, error):
    owner = saving if at == "save_file" else type(tmp_path)
    monkeypatch.setattr(owner, at, failing)
    with pytest.raises(error):
        save_checkpoint(tmp_path / "saved", {2: specimen(tiny_llama, "N1")}, tiny_llama, **PROSE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", ["save_file", "write_text", "rename", "second rename"])
def test_an_overwrite_that_fails_keeps_the_old_checkpoint(tmp_path, tiny_llama, monkeypatch, at):
    old, new = (specimen(tiny_llama, "N1", seed=seed) for seed in (1, 2))
    folder = save_checkpoint(tmp_path / "saved", {2: old}, tiny_llama, **PROSE)
    if at == "second rename":
        rename = type(tmp_path).rename

        def only_the_new_one_fails(path, target):
            return no_space() if path.name.endswith(".partial") else rename(path, target)

        monkeypatch.setattr(type(tmp_path), "rename", only_the_new_one_fails)
    else:
        monkeypatch.setattr(saving if at == "save_file" else type(tmp_path), at, no_space)
    with pytest.raises(NptVizError, match="No space left"):
        save_checkpoint(folder, {2: new}, tiny_llama, overwrite=True, **PROSE)
    monkeypatch.undo()
    assert_same_adapter(open_checkpoint(folder, tiny_llama).adapter(2), old)
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]


def test_an_overwrite_replaces_the_weights_and_keeps_other_files(tmp_path, tiny_llama):
    old, new = specimen(tiny_llama, "N5", 2), specimen(tiny_llama, "N1", 3)
    folder = save_checkpoint(tmp_path / "saved", {2: old}, tiny_llama, **PROSE)
    (folder / "training_log.jsonl").write_text("{}\n")
    (folder / "samples").mkdir()
    (folder / "samples" / "1.txt").write_text("one")
    save_checkpoint(folder, {3: new}, tiny_llama, overwrite=True, **PROSE)
    opened = open_checkpoint(folder, tiny_llama)
    assert opened.layers == (3,)
    assert_same_adapter(opened.adapter(3), new)
    assert (folder / "training_log.jsonl").read_text() == "{}\n"
    assert (folder / "samples" / "1.txt").read_text() == "one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("has_links", [True, False])
def test_an_overwrite_does_not_copy_what_lies_beside(tmp_path, tiny_llama, monkeypatch, has_links):
    """A training's state has four times the adapters; it is there at every moment, were the process killed."""
    adapters = {2: specimen(tiny_llama, "N1")}
    folder = save_checkpoint(tmp_path / "saved", adapters, tiny_llama, **PROSE)
    (folder / "training_state.pt").write_bytes(b"state")
    (folder / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").write_text("another's")
    before = (folder / "training_state.pt").stat().st_ino
    if not has_links:
        monkeypatch.setattr(os, "link", no_space)
    save_checkpoint(folder, adapters, tiny_llama, overwrite=True, **PROSE)
    assert (folder / "training_state.pt").read_bytes() == b"state"
    assert ((folder / "training_state.pt").stat().st_ino == before) is has_links
    assert (folder / "link").read_text() == "another's"
    assert (folder / "link").stat().st_ino != (tmp_path / "outside").stat().st_ino


def test_an_open_checkpoint_notices_that_it_was_overwritten(tmp_path, tiny_llama):
    folder = save_checkpoint(tmp_path / "saved", {2: specimen(tiny_llama, "N1")}, tiny_llama, **PROSE)
    opened = open_checkpoint(folder, tiny_llama)
    save_checkpoint(folder, {2: specimen(tiny_llama, "N5")}, tiny_llama, overwrite=True, **PROSE)
    with pytest.raises(NptVizError, match="changed since it was opened"):
        opened.adapter(2)


def test_nothing_is_overwritten_unasked(tmp_path, tiny_llama):
    adapters = {2: specimen(tiny_llama, "N1")}
    folder = save_checkpoint(tmp_path / "saved", adapters, tiny_llama, **PROSE)
    with pytest.raises(NptVizError, match="exists already"):
        save_checkpoint(folder, adapters, tiny_llama, **PROSE)
    (tmp_path / "empty").mkdir()
    save_checkpoint(tmp_path / "empty", adapters, tiny_llama, **PROSE)


def test_what_is_no_checkpoint_is_never_overwritten(tmp_path, tiny_llama):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for name in ("thesis", "file"):
        with pytest.raises(NptVizError, match="not overwritten"):
            save_checkpoint(
                tmp_path / name, {2: specimen(tiny_llama, "N1")}, tiny_llama, overwrite=True, **PROSE
            )
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path, tiny_llama):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NptVizError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "below", {2: specimen(tiny_llama, "N1")}, tiny_llama, **PROSE)


@pytest.mark.parametrize("figure", [float("nan"), torch.ones(1), {1, 2}])
def test_figures_that_are_no_json_are_refused_before_anything_is_written(tmp_path, tiny_llama, figure):
    with pytest.raises(NptVizError, match="plain JSON"):
        save_checkpoint(
            tmp_path / "saved",
            {2: specimen(tiny_llama, "N1")},
            tiny_llama,
            **PROSE | {"figures": {"x": figure}},
        )
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_save_is_an_error(tmp_path, tiny_llama):
    with pytest.raises(NptVizError, match="no adapter"):
        save_checkpoint(tmp_path / "saved", {}, tiny_llama, **PROSE)


FORMAT_A = {
    "single": format_a(2),
    "other prefix": format_a(2, prefix=NP_COMPONENT),
    "dual of three": format_a(2, ("gate", "up"), components=3),
    "triple": format_a(2, ("gate", "up", "down")),
    "merged": format_a(1, rank=5) | format_a(3, ("gate", "up", "down"), components=2, rank=11),
}


@pytest.mark.parametrize("kind", FORMAT_A)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_to_native_and_back_keeps_every_bit(tmp_path, tiny_llama, kind, dtype):
    original = {name: tensor.to(dtype) for name, tensor in FORMAT_A[kind].items()}
    torch.save(original, tmp_path / "npt_weights.pt")
    native = convert(tmp_path, tmp_path / "native", model=tiny_llama)
    back = convert(native.path, tmp_path / "back", to="A")
    found = torch.load(back.path / "npt_weights.pt", weights_only=True)
    expected = {name.replace("model.layers.2.np_component", "layer_2_np"): t for name, t in original.items()}
    assert found.keys() == expected.keys()
    assert all(same_bits(found[name], expected[name]) for name in expected)
    before, after = open_checkpoint(tmp_path, tiny_llama), open_checkpoint(back.path, tiny_llama)
    for layer in before.layers:
        assert_same_adapter(after.adapter(layer), before.adapter(layer))


@pytest.mark.parametrize("roles", [S2, S0, S1], ids=["S2", "S0", "S1"])
def test_format_b_becomes_native_bit_for_bit(tmp_path, tiny_llama, roles):
    save_file(format_b(2, roles), tmp_path / "model.safetensors")
    converted = convert(tmp_path, tmp_path / "native", model=tiny_llama)
    assert_same_adapter(
        open_checkpoint(converted.path, tiny_llama).adapter(2),
        open_checkpoint(tmp_path, tiny_llama).adapter(2),
    )


def test_format_c_becomes_native_with_its_scale(tmp_path, tiny_llama):
    torch.save(format_c((2,), scale=0.37), tmp_path / "c.pt")
    converted = convert(tmp_path / "c.pt", tmp_path / "native", model=tiny_llama)
    opened = open_checkpoint(converted.path, tiny_llama)
    assert opened.semantics(2).scale == 0.37 and opened.report.provenance == "from the file"
    assert_same_adapter(opened.adapter(2), open_checkpoint(tmp_path / "c.pt", tiny_llama).adapter(2))


def test_an_inferred_reading_is_not_laundered_into_a_fact(tmp_path, tiny_llama):
    torch.save(format_a(2), tmp_path / "npt_weights.pt")
    guessed = convert(tmp_path, tmp_path / "guessed", model=tiny_llama)
    told = convert(tmp_path, tmp_path / "told", model=tiny_llama, semantics="N2")
    assert open_checkpoint(guessed.path).report.provenance == "inferred from key names"
    assert any("inferred" in note for note in guessed.notes)
    report = open_checkpoint(told.path).report
    assert (report.semantics, report.provenance) == ("N2", "chosen by the user")


def test_a_conversion_says_what_is_lost(tmp_path, tiny_llama):
    folder = save_checkpoint(tmp_path / "saved", {2: specimen(tiny_llama, "S2")}, tiny_llama, **PROSE)
    notes = " ".join(convert(folder, tmp_path / "a", to="A").notes)
    assert "attention withheld, scale 0.1" in notes and "fingerprint" in notes


def test_a_written_format_a_claims_what_is_true(tmp_path, tiny_llama):
    folder = save_checkpoint(
        tmp_path / "saved", {2: specimen(tiny_llama, "N4", components=2)}, tiny_llama, **PROSE
    )
    report = open_checkpoint(convert(folder, tmp_path / "a", to="A").path, tiny_llama).report
    assert len(report.claims) == 5 and all(claim.agrees for claim in report.claims)
    assert report.base_match.status == "unknown"


def test_without_a_model_the_missing_fingerprint_is_said(tmp_path):
    torch.save(format_a(2), tmp_path / "npt_weights.pt")
    converted = convert(tmp_path, tmp_path / "native")
    assert any("fingerprint" in note for note in converted.notes)
    assert open_checkpoint(converted.path).layers == (2,)


def test_native_to_native_keeps_recipe_figures_and_fingerprint(tmp_path, tiny_llama):
    adapters = {2: specimen(tiny_llama, "N1")}
    folder = save_checkpoint(
        tmp_path / "saved", adapters, tiny_llama, initial=adapters, fault="none", **PROSE
    )
    again = convert(folder, tmp_path / "again", semantics="N2").path
    before, after = (json.loads((f / "npt_config.json").read_text()) for f in (folder, again))
    for key in ("base", "recipe", "figures", "licence", "fault", "initial_hashes"):
        assert before[key] == after[key]
    assert after["layers"]["2"]["semantics"]["attention"] == "beside"


@pytest.mark.parametrize("variant", ["S0", "S1-early", "T1"])
def test_what_format_a_has_no_keys_for_is_refused(tmp_path, tiny_llama, variant):
    folder = save_checkpoint(tmp_path / "saved", {2: specimen(tiny_llama, variant)}, tiny_llama, **PROSE)
    with pytest.raises(NptVizError, match="convert it to native"):
        convert(folder, tmp_path / "a", to="A")
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]


def test_an_unknown_format_cannot_be_written(tmp_path):
    torch.save(format_a(2), tmp_path / "npt_weights.pt")
    with pytest.raises(NptVizError, match="choose native or A"):
        convert(tmp_path, tmp_path / "x", to="gguf")


def test_an_older_native_file_of_s1_add_is_read_and_rewritten_under_its_right_names(tmp_path, tiny_llama):
    """Older versions wrote B_proj, the name of S0, for B_add."""
    adapter = specimen(tiny_llama, "S1-add", 2)
    initial = specimen(tiny_llama, "S1-add", 2, seed=5)
    stated = {"recipe": {}, "figures": {}, "licence": "none", "initial": {2: initial}}
    save_checkpoint(tmp_path / "old", {2: adapter}, tiny_llama, **stated)
    weights, config = tmp_path / "old" / "npt_weights.safetensors", tmp_path / "old" / "npt_config.json"
    save_file({name.replace("B_add", "B_proj"): t for name, t in load_file(weights).items()}, weights)
    config.write_text(config.read_text().replace("B_add", "B_proj"))
    assert "B_proj" in config.read_text()
    old = open_checkpoint(tmp_path / "old", tiny_llama)
    assert_same_adapter(old.adapter(2), adapter)
    assert old.report.layers[0].variant == "S1-add"
    convert(tmp_path / "old", tmp_path / "new", "native", model=tiny_llama)
    new = open_checkpoint(tmp_path / "new", tiny_llama)
    assert_same_adapter(new.adapter(2), adapter)
    names = {f"model.layers.2.adapter.{role}.weight" for role in ("A_proj", "B_add")}
    assert set(load_file(tmp_path / "new" / "npt_weights.safetensors")) == names
    assert set(new.config["initial_hashes"]) == names
