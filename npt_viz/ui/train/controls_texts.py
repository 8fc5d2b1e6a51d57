"""Controls of the training text, and the text they choose."""

from typing import NamedTuple

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.files import write_whole
from npt_viz.progress import Progress
from npt_viz.texts import bundled_texts, texts_from_file
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.uploads import session_folder

KINDS = ("bundled sample", "pasted", "file", "sampled from the base")

DEFAULTS = {
    "training_text": KINDS[0],
    "training_pasted": "",
    "training_samples": 64,
    "training_most": 16384,
}

SAMPLE_TOKENS = 256


class TextChoice(NamedTuple):
    """The text, or how to make it."""

    label: str
    texts: tuple[str, ...]
    """Empty where the base model has to write them first."""
    n_samples: int
    most: int
    """Tokens to use, at most."""

    def corpus(self, model, seed: int, progress: Progress):
        """The token sequences, split; samples them where they have to be."""
        from npt_viz.training.data import corpus_of
        from npt_viz.training.sampling import sampled_texts

        texts = list(self.texts)
        if not texts:

            def texts_done(done: int, n: int) -> None:
                progress("sampling texts from the base model", done / n)

            texts_done(0, self.n_samples)
            texts = sampled_texts(
                model, self.n_samples, tokens=SAMPLE_TOKENS, batch=8, seed=seed, progress=texts_done
            )
        return corpus_of(model, texts, seed=seed, most=self.most)


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
        case "sampled from the base":
            st.number_input(
                f"Texts of {SAMPLE_TOKENS} tokens", 2, 10_000, key="training_samples", persist_state="session"
            )
    st.number_input(
        "Tokens to use, at most",
        512,
        None,
        step=4096,
        key="training_most",
        persist_state="session",
        help="A random choice of the text's sequences. What the base model does on them is captured once, before "
        "the first step.",
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
    return TextChoice(kind, texts, session["training_samples"], session["training_most"])


@st.cache_data(max_entries=16, show_spinner="Counting tokens")
def token_counts(base: tuple[str, str, str, str], choice: TextChoice, seed: int) -> tuple[int, int]:
    """(to train on, held out)"""
    corpus = choice.corpus(opened.opened_model(*base), seed, lambda stage, fraction: None)
    return corpus.n_train, corpus.n_heldout


def _of_file(file) -> list[str]:
    if file is None:
        raise NptVizError("no file was chosen yet; choose a .txt or .jsonl file on the Text tab")
    path = (
        session_folder() / f"text-{file.file_id[:12]}{'.jsonl' if file.name.endswith('.jsonl') else '.txt'}"
    )
    if not path.exists():
        write_whole(path, file.getbuffer())
    return texts_from_file(path)
