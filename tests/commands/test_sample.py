"""`npt_viz sample`: a file of texts that the seed decides."""

from npt_viz.__main__ import main
from npt_viz.texts import texts_from_file


def sampled(model: str, out, *more: str) -> int:
    return main(
        [
            "sample",
            "--model",
            model,
            "--texts",
            "3",
            "--tokens",
            "9",
            "--start",
            "ab",
            "--out",
            str(out),
            *more,
        ]
    )


def test_the_file_holds_the_texts_that_the_seed_decides(on_disk, tmp_path):
    files = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for file, seed in zip(files, "001", strict=True):
        assert sampled(on_disk.model, file, "--seed", seed) == 0
    first, same, other = (texts_from_file(file) for file in files)
    assert first == same != other
    assert len(first) == 3 and all(text.startswith("ab") for text in first)


def test_a_file_that_is_no_jsonl_or_cannot_be_written_is_one_sentence(on_disk, tmp_path, capsys):
    assert sampled(on_disk.model, tmp_path / "texts.txt") == 1
    assert "must end in .jsonl" in capsys.readouterr().err
    assert sampled(on_disk.model, tmp_path / "absent" / "texts.jsonl") == 1
    assert "cannot be written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
