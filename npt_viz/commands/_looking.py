"""What the commands of the Inspect pages share: one inspected prompt, its pin, and what they print of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from npt_viz import reproducing
from npt_viz.commands._options import numbers
from npt_viz.commands._output import print_json, progress, say
from npt_viz.errors import NptVizError
from npt_viz.files import write_whole
from npt_viz.reproducing import Opened

if TYPE_CHECKING:
    from npt_viz.capture.running import Pass
    from npt_viz.checkpoint import Checkpoint
    from npt_viz.model.base import BaseModel
    from npt_viz.question import Question
    from npt_viz.results.inspection import Inspection
    from npt_viz.results.sentences import Basis


@dataclass(frozen=True, kw_only=True)
class Looked:
    """One inspected prompt with a pinned layer and token, as a page has it."""

    model: "BaseModel"
    checkpoint: "Checkpoint"
    question: "Question"
    run: "Inspection"
    kept_pass: "Pass"
    layer: int
    token: int
    keep_sinks: bool
    opened: Opened
    """What is open, as it was typed."""

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


def looked_at(
    model: str,
    checkpoint: str,
    prompt: str,
    *,
    layers: str | None,
    mode: str,
    positions: str,
    chat: bool,
    bos: str,
    semantics: str | None,
    dtype: str,
    device: str,
    layer: int | None = None,
    token: int | None = None,
    keep_sinks: bool = False,
) -> Looked:
    """Open and inspect what the options name. Raises NptVizError where it cannot be done."""
    wanted = None if layers is None else tuple(numbers("--layers", layers))
    import npt_viz
    from npt_viz.model.memory import out_of_memory_explained
    from npt_viz.question import as_question

    base = npt_viz.open_model(model, dtype=dtype, device=device, progress=progress)
    opened = npt_viz.open_checkpoint(checkpoint, base, semantics)
    forced = {"auto": "auto", "yes": True, "no": False}[bos]
    question = as_question(prompt, layers=wanted, mode=mode, positions=positions, chat=chat, bos=forced)
    kept: list[Pass] = []
    with out_of_memory_explained("this inspection", "shorten the prompt, or choose fewer --layers"):
        run = npt_viz.inspect(base, opened, question, keep=kept.append)
    return Looked(
        model=base,
        checkpoint=opened,
        question=question,
        run=run,
        kept_pass=kept[0],
        layer=_layer_of(run, layer),
        token=_token_of(run, token, keep_sinks),
        keep_sinks=keep_sinks,
        opened=Opened(
            model=model, checkpoint=checkpoint, semantics=semantics or "", dtype=dtype, device=device
        ),
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
    as_json: bool,
    html: str | None,
    page: Callable[[], str],
    notebook: str | None,
    name: str,
    choices: Mapping[str, Any],
) -> None:
    """Print a page's numbers as JSON or words, and write its figures and its notebook where files are named.

    page: called where --html is given; the whole document. name, choices: the page, and what its controls would say, for
        the notebook.
    """
    if html is not None:
        write_whole(html, page())
        say(f"figures in {html}")
    if notebook is not None:
        write_again(notebook, name, looked.opened, looked.question, str(found["sentence"]), choices)
    if as_json:
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
