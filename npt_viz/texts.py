"""Texts to train on and to measure with: the bundled sample, and files of the user's own."""

import json
from pathlib import Path

from npt_viz.arguments import checked
from npt_viz.errors import NptVizError
from npt_viz.identity import text_in
from npt_viz.places import typed_path

SAMPLE = Path(__file__).parent / "data" / "sample.jsonl"
HELD_BACK = 48
"""Number of texts at the end of the sample that no demo checkpoint was trained on."""


@checked
def bundled_texts(part: str = "train") -> list[str]:
    """Texts sampled from SmolLM2-135M-Instruct at temperature 1 (recipe: npt_viz/data/README.md).

    part: 'train', or 'heldout' for the texts that no demo checkpoint has seen.
    """
    texts = texts_from_file(SAMPLE)
    if part not in ("train", "heldout"):
        raise NptVizError(f"the sample has parts train and heldout, not {part!r}")
    return texts[:-HELD_BACK] if part == "train" else texts[-HELD_BACK:]


def texts_from_file(path: str | Path) -> list[str]:
    """The texts of a .jsonl file (one object with a "text" a line) or of a .txt file (one text).

    Raises NptVizError for a file that is missing, no text, not UTF-8, empty, or has a line that is no such object.
    """
    path = typed_path(path)
    content = text_in(path, "a .txt or .jsonl file")
    texts = _from_lines(path, content) if path.suffix == ".jsonl" else [content]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise NptVizError(f"{path} has no text in it; give a file with at least one line of text")
    return texts


def _from_lines(path: Path, content: str) -> list[str]:
    texts = []
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            texts.append(json.loads(line)["text"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise NptVizError(
                f'{path}, line {number}: not a JSON object with a "text"; every line must be {{"text": "…"}}'
            ) from error
        if not isinstance(texts[-1], str):
            raise NptVizError(f'{path}, line {number}: "text" must be a string, got {texts[-1]!r:.40}')
    return texts
