"""File names of uploads: the harmless part of the user's, never too long for a file."""

from pathlib import Path

import pytest

from npt_viz.files import write_whole
from npt_viz.ui.cache.uploads import safe_name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/x.pt", "x.pt"),
        ("a b.jsonl", "a_b.jsonl"),
        (".hidden", "hidden"),
        ("///", "otherwise"),
        ("日.pt", "日.pt"),
    ],
)
def test_only_the_harmless_part_of_a_name_is_kept(name, kept):
    assert safe_name(name, "otherwise") == kept


@pytest.mark.parametrize("letter", ["n", "日", "𝒳"])
def test_a_long_name_is_cut_and_keeps_its_ending(tmp_path, letter):
    name = safe_name(letter * 300 + ".safetensors", "otherwise")
    assert Path(name).suffix == ".safetensors" and len(name) <= 60
    write_whole(tmp_path / name, "it can be written")
