"""Controls of the training text, and the text they choose."""

from pathlib import Path
from typing import NamedTuple

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.progress import Progress
from npt_viz.texts import bundled_texts, texts_from_file
from npt_viz.training.recipe import TOKENS, WINDOW
from npt_viz.training.settings import line
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.cache.uploads import uploaded
from npt_viz.ui.shell import keeping
from npt_viz.ui.shell.text import plain

KINDS = ("bundled sample", "pasted", "file", "sampled from the base")

DEFAULTS = {
    "training_text": KINDS[0],
    "training_pasted": "",
    "training_samples": 64,
    "training_tokens": TOKENS,
    "training_window": WINDOW,
}

KEPT_FILE = "training_text_file"
"""Name of the uploaded file in the browser's folder, with that of its content."""

keeping.keep(KEPT_FILE, "")


class TextChoice(NamedTuple):
    """The text, or how to make it."""

    label: str
    texts: tuple[str, ...]
    """Empty where the base model has to write them first."""
    n_samples: int
    tokens: int
    """To use, at most; 0 for all."""
    window: int
    """Tokens of a sequence."""

    def corpus(self, model, seed: int, progress: Progress):
        """The token sequences, split; samples them where they have to be."""
        from npt_viz.training.data import corpus_of
        from npt_viz.training.sampling import texts_of_base

        texts = self.texts or texts_of_base(model, self.n_samples, seed=seed, progress=progress)
        return corpus_of(model, list(texts), seed=seed, tokens=self.tokens, window=self.window)


def text_controls() -> None:
    """Draw the Text tab."""
    session = st.session_state
    st.segmented_control("Text", KINDS, key="training_text", required=True, persist_state="session")
    match session["training_text"]:
        case "pasted":
            st.text_area("Text to train on", key="training_pasted", height=160, persist_state="session")
        case "file":
            st.file_uploader(
                'A .txt file (one text) or a .jsonl file (one {"text": …} a line)',
                ["txt", "jsonl"],
                key="training_file",
            )
            if st.session_state["training_file"] is None and (before := _kept_file()) is not None:
                st.caption(f"Uploaded before, and used: {plain(before.name)}")
        case "sampled from the base":
            st.number_input(
                "Texts",
                2,
                10_000,
                key="training_samples",
                help=plain(line("samples")),
                persist_state="session",
            )
    tokens, window = st.columns(2)
    tokens.number_input(
        "Tokens to use, at most",
        0,
        None,
        step=4096,
        key="training_tokens",
        persist_state="session",
        help=plain(line("tokens")),
    )
    window.number_input(
        "Tokens of a sequence",
        2,
        None,
        step=64,
        key="training_window",
        persist_state="session",
        help=plain(line("window")),
    )


def chosen_text() -> TextChoice:
    """Text that the controls choose; raises NptVizError where there is none yet."""
    session = st.session_state
    kind, texts = session["training_text"], ()
    match kind:
        case "bundled sample":
            texts = tuple(bundled_texts())
        case "pasted":
            if not session["training_pasted"].strip():
                raise NptVizError(
                    "there is no text yet; paste some on the Text tab, or choose the bundled sample"
                )
            texts = (session["training_pasted"],)
        case "file":
            texts = tuple(_of_file(session.get("training_file")))
    sizes = (session[f"training_{name}"] for name in ("samples", "tokens", "window"))
    return TextChoice(kind, texts, *sizes)


@st.cache_data(max_entries=16, show_spinner="Counting tokens")
def token_counts(base: tuple[str, str, str, str], choice: TextChoice, seed: int) -> tuple[int, int]:
    """(to train on, held out)"""
    corpus = choice.corpus(opened.opened_model(*base), seed, lambda stage, fraction: None)
    return corpus.n_train, corpus.n_heldout


def _of_file(file) -> list[str]:
    path = _kept_file() if file is None else uploaded(file, "text.txt")
    if path is None:
        raise NptVizError("no file was chosen yet; choose a .txt or .jsonl file on the Text tab")
    st.session_state[KEPT_FILE] = f"{path.parent.name}/{path.name}"
    return texts_from_file(path)


def _kept_file() -> Path | None:
    """The file that was uploaded before the page was reloaded."""
    keeping.settle(KEPT_FILE)
    folder, _, name = st.session_state[KEPT_FILE].partition("/")
    uploads = owner().folder.uploads
    # Only a name that lies in the folder: what is kept is not trusted to be one.
    there = {file.name: file for each in uploads.glob("*") if each.name == folder for file in each.glob("*")}
    return there.get(name)
