"""Texts from files: every text kept as it is, every bad file one sentence."""

import pytest

from npt_viz.errors import NptVizError
from npt_viz.texts import HELD_BACK, bundled_texts, texts_from_file


def test_a_jsonl_file_gives_its_texts_unchanged(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": " a\\u2028b\\n"}\n\n{"text": "<b>", "other": 1}\n', encoding="utf-8")
    assert texts_from_file(file) == [" a\u2028b\n", "<b>"]


def test_a_text_file_is_one_text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("one\ntwo\n", encoding="utf-8")
    assert texts_from_file(file) == ["one\ntwo\n"]


def test_the_sample_holds_texts_back_that_training_does_not_see():
    train, heldout = bundled_texts("train"), bundled_texts("heldout")
    assert len(heldout) == HELD_BACK
    assert not set(train) & set(heldout)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', "line 2: not a JSON object with a .text"),
        ("a.jsonl", b'{"text": 3}\n', "must be a string, got 3"),
        ("a.jsonl", b"nonsense", "line 1"),
        ("a.txt", b"\xff\xfe", "UTF-8"),
        ("a.txt", b" \n ", "no text"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NptVizError, match=words) as caught:
        texts_from_file(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(NptVizError, match="no such file or folder"):
        texts_from_file(tmp_path / "absent.txt")
