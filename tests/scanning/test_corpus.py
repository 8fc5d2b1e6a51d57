"""What is read of each kind of file, and a sentence for what cannot be."""

import json
import tracemalloc

import pyarrow as pa
import pytest
from pyarrow import parquet

from npt_viz.errors import NptVizError
from npt_viz.scanning import corpus as reading
from npt_viz.scanning.corpus import BLOCK, Corpus, Reader, as_corpus
from npt_viz.scanning.windows import parts
from npt_viz.texts import bundled_texts

TEXTS = ["the first", "ein zweiter\nmit Zeile", "", "третий", "  "]
KEPT = ["the first", "ein zweiter\nmit Zeile", "третий"]


def read(*paths, **settings) -> tuple[list[str], dict]:
    reader = Reader(Corpus(paths=tuple(map(str, paths)), **settings))
    return [block.text for block in reader.blocks()], reader.skipped


def jsonl(folder, texts, name="a.jsonl", field="text"):
    file = folder / name
    file.write_text("".join(json.dumps({field: text, "other": 3}) + "\n" for text in texts))
    return file


def test_json_lines_have_a_text_a_line(tmp_path):
    file = jsonl(tmp_path, TEXTS)
    file.write_text(file.read_text() + "\n\n")
    assert read(file) == (KEPT, {"empty": 4})
    assert read(jsonl(tmp_path, TEXTS, field="content"), field="content")[0] == KEPT


def test_a_table_has_a_text_a_row(tmp_path):
    parquet.write_table(pa.table({"n": range(5), "text": TEXTS}), tmp_path / "t.parquet", row_group_size=2)
    assert read(tmp_path / "t.parquet") == (KEPT, {"empty": 2})


def test_a_dataset_that_was_saved_is_read_without_the_library(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, some in zip(names, (TEXTS[:2], TEXTS[2:]), strict=True):
        table = pa.table({"text": some, "label": [0] * len(some)})
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    assert read(folder) == (KEPT, {"empty": 2})
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["saved", "test"]}))
    with pytest.raises(
        NptVizError, match=r"holds the splits saved, test of a dataset; give one of them: .*/saved"
    ):
        read(tmp_path)


def test_plain_text_is_one_text_a_file_or_a_paragraph(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\n \r\ntwo\r\nlines\n\n\n")
    (tmp_path / "a.md").write_text("three")
    (tmp_path / "c.csv").write_text("no text")
    assert read(tmp_path)[0] == ["three", "one\r\n\r\n \r\ntwo\r\nlines\n\n\n"]
    assert read(tmp_path / "*.txt", split="blank lines")[0] == ["one", "two\nlines"]


def test_a_paragraph_ends_where_it_does_however_the_file_is_read(tmp_path, monkeypatch):
    content = "\n\n".join(f"paragraph {i} " + "x" * (i % 11) for i in range(60))
    (tmp_path / "a.txt").write_text(content)
    monkeypatch.setattr(reading, "BLOCK", 13)
    pieces = read(tmp_path / "a.txt", split="blank lines")[0]
    assert "".join(pieces).replace(" ", "") == content.replace("\n\n", "").replace(" ", "")


def test_several_paths_are_read_in_turn_and_a_file_once(tmp_path):
    one, two = jsonl(tmp_path, ["x"], "1.jsonl"), jsonl(tmp_path, ["y"], "2.jsonl")
    assert read(two, tmp_path, one)[0] == ["y", "x"]
    assert read("sample")[0] == [*bundled_texts(), *bundled_texts("heldout")] and as_corpus(
        "sample", field="text"
    ).paths == ("sample",)


def test_a_long_line_is_cut_at_white_space_and_loses_nothing(tmp_path):
    text = " ".join(f"word{i}" for i in range(120_000))
    assert len(text) > 1_000_000
    blocks = list(Reader(Corpus(paths=(str(jsonl(tmp_path, ["a b", text, "c d"])),))).blocks())
    middle = [block for block in blocks if block.document == 1]
    assert "".join(block.text for block in middle) == text and len(middle) > 15
    assert all(len(block.text) <= BLOCK and not block.text[-1].isspace() for block in middle)
    assert [block.block for block in middle] == list(range(len(middle))) and blocks[-1].document == 2


def test_a_long_text_is_never_whole_in_memory(tmp_path):
    with (tmp_path / "big.txt").open("w") as file:
        for i in range(400_000):
            file.write(f"line {i} of a long text\n")
    tracemalloc.start()
    n = sum(len(block.text) for block in Reader(Corpus(paths=(str(tmp_path / "big.txt"),))).blocks())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n > 9_000_000 and peak < 2_000_000


def test_windows_cover_every_token_and_begin_anew(tiny_llama, tmp_path):
    texts = ["x" * 100, "y", "abcde" * 7]
    reader = Reader(Corpus(paths=(str(jsonl(tmp_path, texts)),)))
    found = list(parts(tiny_llama, reader, window=33, part_tokens=90))
    windows = [window for part in found for window in part.windows]
    assert [len(window.ids) for window in windows] == [33, 33, 33, 33, 2]
    assert [window.start for window in windows] == [0, 33, 66, 0, 33]
    assert [window.cluster for window in windows] == [0, 0, 0, 1, 1]
    # One token stays of the first text and one is the second: no context and no next one.
    assert sum(part.n_short for part in found) == 2 and sum(part.n_texts for part in found) == 3
    assert [part.n_tokens for part in found] == [99, 35] and found[-1].read == 1.0


def test_a_file_that_shrinks_while_it_is_read_is_a_sentence(tmp_path):
    file = jsonl(tmp_path, [f"text {i} " * 9 for i in range(4000)])
    blocks = Reader(Corpus(paths=(str(file),))).blocks()
    next(blocks)
    file.write_text(file.read_text()[:90_000].rpartition("\n")[0] + "\n")
    with pytest.raises(NptVizError, match=r"a.jsonl has changed since the scan began \(.* bytes, now .*kept"):
        list(blocks)


def bad(folder, name, content: bytes):
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", b"ab\xff\xfe c", r"cannot be read as UTF-8 text \(byte 0xff at 2\); save it as UTF-8"),
        ("a.txt", b"x" * 70_001 + b"\xe9\n", r"\(byte 0xe9 at 70,001\)"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', r"\(byte 0xe9 in line 2\)"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', "line 2: is no JSON; every line"),
        ("a.jsonl", b'["a"]\n', "line 1: is no JSON object"),
        ("a.jsonl", b'{"body": "a", "id": 3}\n', "line 1: has no field 'text', it has body, id; name the one"),
        ("a.jsonl", b'{"text": 3}\n', "line 1: 'text' is 3 and must be text"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', r"line 1: has the lone surrogate U\+D800"),
        ("a.parquet", b"PAR1 and no more", "cannot be read as a table"),
        ("a.txt", b"\x1f\x8b\x08\0\0", "is a gzip archive, and no text; unpack it"),
        ("a.csv", b"a,b", r"told by its ending, and \.csv is none of"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_sentence(tmp_path, name, content, message):
    with pytest.raises(NptVizError, match=message) as raised:
        read(bad(tmp_path, name, content))
    assert "\n" not in str(raised.value)


def test_what_is_not_there_is_a_sentence(tmp_path):
    parquet.write_table(pa.table({"body": ["a"], "text": [3]}), tmp_path / "t.parquet")
    for path, settings, message in (
        (tmp_path / "none", {}, "no such file or folder; give a file or folder of texts"),
        (tmp_path / "*.nothing", {}, "no file has such a name"),
        (tmp_path / "t.parquet", {"field": "x"}, "has no field 'x', it has body, text"),
        (tmp_path / "t.parquet", {}, "the column 'text' holds int64 and must hold text"),
    ):
        with pytest.raises(NptVizError, match=message):
            read(path, **settings)
    with pytest.raises(NptVizError, match="the corpus is empty"):
        Corpus(paths=())
    (tmp_path / "empty").mkdir()
    with pytest.raises(NptVizError, match="has no texts in it"):
        read(tmp_path / "empty")
