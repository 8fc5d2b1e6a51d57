"""What is open, and what was computed from it, cached by plain values.

Everything that changes an answer is part of `Asked`: a changed file is a new key, an unchanged one is the same, and
all sessions share one model. Torch is imported inside the functions, so that a page paints before it is loaded.
"""

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

KEPT_BYTES = 2**27
"""The most that the activations of one prompt may take and still be kept."""


class Source(NamedTuple):
    """A base model and a checkpoint, as plain values."""

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
        """The base model alone: what `opened_model` takes."""
        return self[:4]


class Asked(NamedTuple):
    """One question: what to run on which prompt, as plain values."""

    source: Source
    prompt: str
    layers: tuple[int, ...] | None
    """NPT layers that are switched on; None for all."""
    mode: str
    positions: str
    chat: bool
    bos: str

    @property
    def question(self) -> Question:
        """As the library takes it. Raises NptVizError for settings that do not go together."""
        return Question(
            prompt=self.prompt,
            layers=self.layers,
            mode=self.mode,
            positions=self.positions,
            chat=self.chat,
            bos={"yes": True, "no": False}.get(self.bos, "auto"),
        )


def stamp(path: str) -> str:
    """Changes when a file, or a file directly in a folder or its checkpoints/, changes; empty where nothing is there."""
    where = located(path)
    if not where.exists():
        return ""
    files = [where] if where.is_file() else sorted(p for p in where.glob("**/*") if p.is_file())[:500]
    marks = [(file.name, found.st_mtime_ns, found.st_size) for file in files if (found := file.stat())]
    return f"{hash(tuple(marks)):x}"


@st.cache_resource(
    max_entries=2,
    on_release=lambda model: model.close(),
    validate=lambda model: not model.closed,
    show_spinner=False,
)
def opened_model(name: str, stamp: str, dtype: str, device: str):
    """The BaseModel that all sessions share. It owns a lock: whoever runs it holds that."""
    from npt_viz.model.opening import open_model

    return open_model(name, dtype=dtype, device=device)


@st.cache_resource(
    max_entries=6,
    on_release=lambda checkpoint: checkpoint.close(),
    validate=lambda checkpoint: not checkpoint.model.closed,
    show_spinner=False,
)
def _opened_checkpoint(source: Source):
    from npt_viz.capture.probe import open_checkpoint

    if not source.checkpoint:
        raise NptVizError("no checkpoint is open; choose one in the sidebar, give its path, or upload a file")
    return open_checkpoint(located(source.checkpoint), opened_model(*source.base), source.semantics or None)


def opened(source: Source) -> tuple:
    """(BaseModel, Checkpoint), loaded or shared."""
    return opened_model(*source.base), _opened_checkpoint(source)


def release(source: Source) -> None:
    """Give the memory of the model and its checkpoints back."""
    passes().clear()
    _opened_checkpoint.clear()
    opened_model.clear(*source.base)


@st.cache_data(max_entries=16, show_spinner="Reading the checkpoint")
def load_report(source: Source) -> LoadReport:
    return opened(source)[1].report


def inspection(asked: Asked) -> Inspection:
    """Shows how far it is, so that a long prompt is not a still page; a click stops it."""
    from npt_viz.capture.inspection import inspect

    key = ("inspection", asked)
    if (found := results().get(key)) is not None:
        return found
    model, checkpoint = opened(asked.source)
    place, label = st.empty(), "Inspecting the prompt"
    with place, st.spinner(label):
        found = inspect(
            model,
            checkpoint,
            asked.question,
            keep=lambda seen: _keep(asked, seen),
            progress=bar(place, label),
        )
    place.empty()
    results().put(key, found)
    return found


def seen(asked: Asked) -> "Pass | None":
    """The activations behind an inspection, while they are kept: what asks more of the prompt need not run it again."""
    return passes().get(_any_mode(asked))


def _keep(asked: Asked, seen: "Pass") -> None:
    if seen.kept_bytes <= KEPT_BYTES:
        passes().put(_any_mode(asked), seen)


def _any_mode(asked: Asked) -> Asked:
    """Both modes are read from one pass."""
    return asked._replace(mode="local")


@st.cache_data(max_entries=256, show_spinner=False)
def token_card(asked: Asked, layer: int, token: int) -> TokenCard:
    from npt_viz.capture.token_card import token_card

    model, checkpoint = opened(asked.source)
    return token_card(model, checkpoint, inspection(asked), layer, token, seen=seen(asked))


@st.cache_data(max_entries=16, show_spinner="Checking parity")
def parity(source: Source) -> Parity:
    from npt_viz.analysis.parity import parity

    return parity(*opened(source))


def model_facts(source: Source) -> dict[str, str]:
    """The open base model in words."""
    found = opened_model(*source.base)
    return {
        "name": found.name,
        "source": found.source,
        "size": f"{found.n_layers} layers, d_model {found.d_model:,}, d_ffn {found.d_ffn:,}",
        "context": f"{found.context_length:,} tokens",
        "runs": f"{str(found.dtype).removeprefix('torch.')} on {found.device}",
    }


def variants_for(rule: str) -> dict[str, str]:
    """Variant -> its summary, for those whose rule the tensors of a file allow."""
    from npt_viz.adapter.semantics import VARIANTS

    return {name: variant.summary for name, variant in VARIANTS.items() if variant.semantics.rule == rule}
