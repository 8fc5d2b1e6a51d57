"""Models, checkpoints and inspections, cached by plain values.

Everything that changes an answer is part of `Asked`: a changed file is a new key, an unchanged one is the same, and
all sessions share one model. Torch is imported inside the functions, so that a page paints before it is loaded.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.places import located
from npt_viz.question import Question
from npt_viz.results.inspection import Inspection
from npt_viz.results.load_report import LoadReport
from npt_viz.results.parity import Parity
from npt_viz.results.token_card import TokenCard
from npt_viz.ui.cache.kept import bar, passes, results

if TYPE_CHECKING:
    from npt_viz.capture.running import Pass
    from npt_viz.checkpoint import Checkpoint
    from npt_viz.model.base import BaseModel

KEPT_BYTES = 2**27
"""The most that the activations of one prompt may take and still be kept."""


class Selection(NamedTuple):
    """Base model and checkpoint that the head names, as plain values."""

    model: str
    model_stamp: str
    dtype: str
    device: str
    checkpoint: str
    checkpoint_stamp: str
    semantics: str
    """A variant's name; empty for what the file says or its key names imply."""

    @property
    def base(self) -> tuple[str, str, str, str]:
        """Arguments of `opened_model`: the base model alone."""
        return self[:4]


class Asked(NamedTuple):
    """Key of everything that a page computes: what is open, and what is asked of it."""

    selection: Selection
    question: Question

    @property
    def text(self) -> str:
        """The prompt, which is a text on every page."""
        assert isinstance(self.question.prompt, str)
        return self.question.prompt

    def having(self, **changes) -> "Asked":
        """The same with other values in the question."""
        return self._replace(question=replace(self.question, **changes))


def stamp(path: str) -> str:
    """Text that changes when a file, or any file below a folder, changes; empty where nothing is there, or can be read."""
    try:
        where = located(path)
        if not where.exists():
            return ""
        files = [where] if where.is_file() else sorted(p for p in where.glob("**/*") if p.is_file())[:500]
        marks = [(file.name, status.st_mtime_ns, status.st_size) for file in files if (status := file.stat())]
    except (NptVizError, OSError):  # Opening it says what is wrong.
        return ""
    # The same in every process: the history keeps it.
    return hashlib.blake2b(repr(marks).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@st.cache_resource(
    max_entries=2,
    on_release=lambda model: model.close(),
    validate=lambda model: not model.closed,
    show_spinner=False,
)
def opened_model(name: str, stamp: str, dtype: str, device: str) -> "BaseModel":
    """Base model that all sessions share. Whoever runs it holds its lock."""
    from npt_viz.model.opening import open_model

    return open_model(name, dtype=dtype, device=device)


@st.cache_resource(
    max_entries=6,
    on_release=lambda checkpoint: checkpoint.close(),
    validate=lambda checkpoint: not checkpoint.model.closed,
    show_spinner=False,
)
def _opened_checkpoint(selection: Selection) -> "Checkpoint":
    from npt_viz.capture.opening import open_checkpoint

    if not selection.checkpoint:
        raise NptVizError("no checkpoint is open; choose one above, give its path, or upload a file")
    return open_checkpoint(
        located(selection.checkpoint), opened_model(*selection.base), selection.semantics or None
    )


def opened(selection: Selection) -> "tuple[BaseModel, Checkpoint]":
    """Base model and checkpoint, loaded or shared."""
    return opened_model(*selection.base), _opened_checkpoint(selection)


def release(selection: Selection) -> None:
    """Give the memory of the model and its checkpoints back."""
    passes().clear()
    _opened_checkpoint.clear()
    opened_model.clear(*selection.base)


@st.cache_data(max_entries=16, show_spinner="Reading the checkpoint")
def load_report(selection: Selection) -> LoadReport:
    """Load report of the checkpoint."""
    return opened(selection)[1].report


def inspection(asked: Asked) -> Inspection:
    """Inspection of the prompt, with a bar while it runs; a click stops it."""
    from npt_viz.capture.inspection import inspect

    key = ("inspection", asked)
    if (run := results().get(key)) is not None:
        return run
    model, checkpoint = opened(asked.selection)
    place, label = st.empty(), "Inspecting the prompt"
    with place, st.spinner(label):
        run = inspect(
            model,
            checkpoint,
            asked.question,
            keep=lambda activations: _keep(asked, activations),
            progress=bar(place, label),
        )
    place.empty()
    results().put(key, run)
    return run


def kept_pass(asked: Asked) -> "Pass | None":
    """Activations behind an inspection, while they are kept: what asks more of the prompt need not run it again."""
    return passes().get(_both_modes(asked))


def _keep(asked: Asked, activations: "Pass") -> None:
    if activations.kept_bytes <= KEPT_BYTES:
        passes().put(_both_modes(asked), activations)


def _both_modes(asked: Asked) -> Asked:
    """One key for both modes, which are read from one pass."""
    return asked.having(mode="local")


@st.cache_data(max_entries=256, show_spinner=False)
def token_card(asked: Asked, layer: int, token: int) -> TokenCard:
    """Token card: what the modulation of one layer does at one token."""
    from npt_viz.capture.token_card import token_card

    model, checkpoint = opened(asked.selection)
    return token_card(model, checkpoint, inspection(asked), layer, token, kept_pass=kept_pass(asked))


@st.cache_data(max_entries=16, show_spinner="Checking parity")
def parity_of(selection: Selection) -> Parity:
    """Parity checks of what is open."""
    from npt_viz.analysis.parity import parity

    return parity(*opened(selection))


def model_facts(selection: Selection) -> dict[str, str]:
    """Facts about the base model in words: name, source, size, context, precision and device."""
    model = opened_model(*selection.base)
    return {
        "name": model.name,
        "source": model.source,
        "size": model.size,
        "context": f"{model.context_length:,} tokens",
        "notes": " ".join(f"{note}." for note in model.notes),
        "runs": f"{str(model.dtype).removeprefix('torch.')} on {model.device}",
    }


def summaries(variants: Iterable[str]) -> dict[str, str]:
    """Variant -> its summary."""
    from npt_viz.adapter.semantics import VARIANTS

    return {name: VARIANTS[name].summary for name in variants}
