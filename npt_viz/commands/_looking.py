"""What the commands of the Inspect pages share: one inspected prompt, its pin, and what they print of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

from npt_viz import reproducing
from npt_viz.commands._options import (
    AllLayers,
    AsJson,
    Bos,
    Chat,
    Checkpoint,
    Device,
    Dtype,
    Html,
    Layer,
    Mode,
    Model,
    Notebook,
    Positions,
    Prompt,
    Semantics,
    Token,
    numbers,
)
from npt_viz.commands._output import print_json, progress, say
from npt_viz.errors import NptVizError
from npt_viz.files import write_whole
from npt_viz.reproducing import Opened

if TYPE_CHECKING:
    from npt_viz.capture.running import Pass
    from npt_viz.checkpoint import Checkpoint as OpenCheckpoint
    from npt_viz.model.base import BaseModel
    from npt_viz.question import Question
    from npt_viz.results.inspection import Inspection
    from npt_viz.results.sentences import Basis


BOS: dict[str, Literal["auto"] | bool] = {"auto": "auto", "yes": True, "no": False}
"""What --bos says -> `bos` of a Question."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Options of a command that runs a prompt: what is open, and the question."""

    model: Model
    checkpoint: Checkpoint
    prompt: Prompt
    layers: AllLayers = None
    mode: Mode = "local"
    positions: Positions = "deployed"
    chat: Chat = False
    bos: Bos = "auto"
    semantics: Semantics = None
    dtype: Dtype = "auto"
    device: Device = "auto"
    as_json: AsJson = False

    @property
    def question(self) -> "Question":
        """Raises typer.BadParameter for --layers that are no list of numbers, and NptVizError as Question does."""
        layers = None if self.layers is None else tuple(numbers("--layers", self.layers))
        from npt_viz.question import Question

        return Question(
            prompt=self.prompt,
            layers=layers,
            mode=self.mode,
            positions=self.positions,
            chat=self.chat,
            bos=BOS[self.bos],
        )

    @property
    def typed(self) -> Opened:
        """What is open, for a notebook."""
        return Opened(
            model=self.model,
            checkpoint=self.checkpoint,
            semantics=self.semantics or "",
            dtype=self.dtype,
            device=self.device,
        )

    def opened(self) -> "tuple[BaseModel, OpenCheckpoint]":
        """Open the model and the checkpoint. Raises NptVizError where either cannot be opened."""
        import npt_viz

        base = npt_viz.open_model(self.model, dtype=self.dtype, device=self.device, progress=progress)
        return base, npt_viz.open_checkpoint(self.checkpoint, base, self.semantics)


@dataclass(frozen=True, kw_only=True)
class AskedPage(Asked):
    """Options of a command that says what an Inspect page says: also the pin, and the files it writes."""

    layer: Layer = None
    token: Token = None
    html: Html = None
    notebook: Notebook = None


@dataclass(frozen=True, kw_only=True)
class Looked:
    """One inspected prompt with a pinned layer and token, as a page has it."""

    asked: AskedPage
    model: "BaseModel"
    checkpoint: "OpenCheckpoint"
    question: "Question"
    run: "Inspection"
    kept_pass: "Pass"
    layer: int
    token: int
    keep_sinks: bool

    @property
    def basis(self) -> "Basis":
        from npt_viz.results.sentences import Basis

        return Basis.of_run(self.run, with_sinks=self.keep_sinks)

    @property
    def left_out(self):
        """(token,) bool: attention sinks that do not count."""
        return self.run.is_sink & (not self.keep_sinks)

    @property
    def shown(self) -> range:
        """Tokens that figures draw: the block around the pin."""
        from npt_viz.figures.maps import window

        return window(len(self.run.pieces), self.token)


def looked_at(asked: AskedPage, *, keep_sinks: bool = False) -> Looked:
    """Open and inspect what the options name. Raises NptVizError where it cannot be done."""
    question = asked.question
    import npt_viz
    from npt_viz.model.memory import out_of_memory_explained

    base, opened = asked.opened()
    kept: list[Pass] = []
    with out_of_memory_explained("this inspection", "shorten the prompt, or choose fewer --layers"):
        run = npt_viz.inspect(base, opened, question, keep=kept.append)
    return Looked(
        asked=asked,
        model=base,
        checkpoint=opened,
        question=question,
        run=run,
        kept_pass=kept[0],
        layer=_layer_of(run, asked.layer),
        token=_token_of(run, asked.token, keep_sinks),
        keep_sinks=keep_sinks,
    )


def _layer_of(run: "Inspection", layer: int | None) -> int:
    if layer is None:
        return max(run.layers)
    if layer not in run.layers:
        raise NptVizError(
            f"--layer {layer} is no NPT layer that runs; choose among {', '.join(map(str, sorted(run.layers)))}"
        )
    return layer


def _token_of(run: "Inspection", token: int | None, keep_sinks: bool) -> int:
    from npt_viz.results.sentences.tokens import most_moved

    n_tokens = len(run.pieces)
    if token is None:
        return most_moved(run, with_sinks=keep_sinks)
    if not -n_tokens <= token < n_tokens:
        raise NptVizError(
            f"--token {token} does not exist: the prompt has tokens 0 to {n_tokens - 1}, and negative ones from the end"
        )
    return token % n_tokens


def about(looked: Looked) -> dict:
    """What every one of these commands says first: what was asked, of what, and the pin."""
    run = looked.run
    named = ("prompt", "model", "checkpoint", "mode", "positions", "tokens", "token_ids", "is_sink")
    return {
        **{name: getattr(run, name) for name in named},
        "keep_sinks": looked.keep_sinks,
        "layer": looked.layer,
        "token": looked.token,
    }


def told(
    looked: Looked,
    found: Mapping[str, Any],
    words: str,
    *,
    page: Callable[[], str],
    name: str,
    choices: Mapping[str, Any],
) -> None:
    """Print a page's numbers as JSON or words, and write its figures and its notebook where files are named.

    page: called where --html is given; the whole document. name, choices: the page, and what its controls would say, for
        the notebook.
    """
    asked = looked.asked
    if asked.html is not None:
        write_whole(asked.html, page())
        say(f"figures in {asked.html}")
    if asked.notebook is not None:
        write_again(asked.notebook, name, asked.typed, looked.question, str(found["sentence"]), choices)
    if asked.as_json:
        print_json(named({**about(looked), **found}))
    else:
        print(words)
    for note in looked.run.notes:
        say(f"note: {note}")


def write_again(
    file: str,
    name: str,
    opened: "reproducing.Opened",
    question: "Question",
    sentence: str,
    choices: Mapping[str, Any],
) -> None:
    """Write the script or notebook of a page. Raises NptVizError for a file that is named as neither."""
    if file.endswith(".py"):
        text = reproducing.script(name, opened, question, **choices)
    elif file.endswith(".ipynb"):
        text = reproducing.notebook(name, opened, question, sentence=sentence, **choices)
    else:
        raise NptVizError(
            f"{file}: a notebook's name ends in .ipynb and a script's in .py; choose one of these"
        )
    write_whole(file, text)
    say(f"the way to these numbers in {file}")


def named(value: Any) -> Any:
    """The same with every dataclass and named tuple in it as a dict of its fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: named(getattr(value, each.name)) for each in fields(value)}
    if hasattr(value, "_asdict"):
        return {name: named(item) for name, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {key: named(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [named(item) for item in value]
    return value
