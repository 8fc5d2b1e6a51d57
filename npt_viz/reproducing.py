"""A page again without the app: a Python script, or a Jupyter notebook, that comes to the same numbers by public names.

Every value is written as a literal, so that no text of a prompt or a path can become code.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, NamedTuple

from npt_viz.errors import NptVizError
from npt_viz.question import Question


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What is open, as it was typed."""

    model: str
    checkpoint: str
    semantics: str = ""
    """A variant's name; empty for what the file says or its key names imply."""
    dtype: str = "auto"
    device: str = "auto"


class Beneath(NamedTuple):
    """Permanent updates that lie beneath a run, as they are read from a recipe again."""

    recipe: str = "npt_edits.json"
    """File or folder; the ledger's own name in an export by default."""
    digests: tuple[str, ...] = ()
    """`Update.digest()` of each, in the order in which they were applied; none where the base is as it was opened."""


class Cell(NamedTuple):
    """A piece of the way to a page."""

    words: str
    """What it does, for a reader."""
    code: tuple[str, ...]
    shown: str = ""
    """What a notebook shows of it; a script has no use for that."""


TITLES = {
    "tokens": "What does the modulation do at this token?",
    "reconstruction": "Does the modulated MLP replace attention?",
    "directions": "Do v_b and v_a carry information from token to token, or collapse?",
    "orthogonality": "Does v_a point into the directions that all tokens share?",
    "attribution": "Which input tokens drive this scalar, or this logit?",
    "permanent_update": "What would writing this into the weights do?",
    "transplant": "What if this prompt used another one's modulation?",
    "compare": "What changed from A to B?",
}
"""Page -> its question."""


def script(page: str, opened: Opened, question: Question, **choices: Any) -> str:
    """Python that prints the page's sentence and numbers.

    page: one of TITLES. question: the prompt with its settings. choices: what the page's own controls say, all of them with
    the page's defaults; see the functions below for their names.
    Raises NptVizError for a page that has no script, and TypeError for a choice that it does not have.
    """
    return "\n\n".join("\n".join(cell.code) for cell in cells(page, opened, question, **choices)) + "\n"


def notebook(page: str, opened: Opened, question: Question, *, sentence: str = "", **choices: Any) -> str:
    """The same as a Jupyter notebook (.ipynb), in which results show themselves.

    sentence: what the page says now, to compare with.
    """
    written = [_markdown(f"# {TITLES[_known(page)]}"), *([_quoted(sentence)] if sentence else [])]
    for cell in cells(page, opened, question, **choices):
        lines = (*cell.code, *([cell.shown] if cell.shown else []))
        written += [_markdown(cell.words), _code(lines)]
    about = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    numbered = [{"id": f"npt-{i}", **cell} for i, cell in enumerate(written)]
    return json.dumps({"cells": numbered, "metadata": about, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def cells(page: str, opened: Opened, question: Question, **choices: Any) -> list[Cell]:
    """The steps of a page, in order. Raises as `script` does."""
    written = {name: _writable(value) for name, value in choices.items()}
    return [_opening(opened), _inspecting(question), *_PAGES[_known(page)](question, **written)]


class _Float(float):
    """A float whose repr is Python also where it is infinite or NaN."""

    def __repr__(self) -> str:
        return super().__repr__() if isfinite(self) else f'float("{float(self)}")'


def _writable(value: Any) -> Any:
    """The same, such that its repr is a literal: NumPy's scalars and infinite numbers have none of their own."""
    if isinstance(value, Mapping):
        return {name: _writable(each) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_writable, value))
    value = value.item() if hasattr(value, "item") else value
    return _Float(value) if isinstance(value, float) else value


def _known(page: str) -> str:
    if page not in TITLES:
        raise NptVizError(
            f"the page {page!r} cannot be reproduced by a script; these can: {', '.join(TITLES)}"
        )
    return page


def _opening(opened: Opened) -> Cell:
    how = "".join(
        f", {name}={value!r}"
        for name, value in (("dtype", opened.dtype), ("device", opened.device))
        if value != "auto"
    )
    semantics = f", semantics={opened.semantics!r}" if opened.semantics else ""
    return Cell(
        "The base model and the checkpoint.",
        (
            "import npt_viz",
            "",
            f"model = npt_viz.open_model({opened.model!r}{how})",
            f"checkpoint = npt_viz.open_checkpoint({opened.checkpoint!r}, model{semantics})",
        ),
        "checkpoint.report",
    )


def _inspecting(question: Question) -> Cell:
    return Cell(
        "One prompt through the base model and the NPT model, token by token.",
        (f"question = {_written(question)}", "run = npt_viz.inspect(model, checkpoint, question)"),
        "run",
    )


def _written(question: Question) -> str:
    """A question as Python, without what is at its default."""
    defaults = {each.name: each.default for each in fields(Question)}
    set_ = {each.name: getattr(question, each.name) for each in fields(Question)}
    arguments = ", ".join(f"{name}={value!r}" for name, value in set_.items() if value != defaults[name])
    return f"npt_viz.Question({arguments})"


def _tokens(question: Question, *, layer: int, keep_sinks: bool = False) -> list[Cell]:
    return [
        _answer(f"run, layer={layer!r}, keep_sinks={keep_sinks!r}"),
        Cell(
            "The numbers behind it, and all of them as a table with one row a layer and token.",
            (f"print(run.layers[{layer!r}].recovered, run.kl)", "frame = run.to_frame()"),
            "frame",
        ),
    ]


def _reconstruction(question: Question, *, layer: int, keep_sinks: bool = False) -> list[Cell]:
    return [
        Cell(
            "The layers against the attention they replace, in both modes and with both kinds of positions.",
            ("result = npt_viz.positions_compared(model, checkpoint, question)",),
            f"result.runs[{question.positions!r}]",
        ),
        _answer(f"result, run, layer={layer!r}, keep_sinks={keep_sinks!r}"),
        Cell(
            "The numbers behind it, token by token.",
            (
                f"fit = result.runs[{question.positions!r}].fits({question.mode!r})[{layer!r}]",
                "print(fit.recovered, fit.relative_error, fit.cosine)",
            ),
        ),
    ]


def _directions(question: Question, *, layer: int, target: str, keep_sinks: bool = False) -> list[Cell]:
    return [
        Cell(
            "The vectors of one target, compared over the tokens.",
            (
                f"result = npt_viz.directions(model, checkpoint, run, {layer!r}, target={target!r}, keep_sinks={keep_sinks!r})",
            ),
            "result",
        ),
        _answer("result"),
        Cell(
            "The numbers behind it.",
            ("for verdict in result.verdicts:", "    print(verdict.name, dict(verdict.evidence))"),
        ),
    ]


def _orthogonality(
    question: Question,
    *,
    layer: int,
    target: str,
    of: str = "h",
    top: int = 10,
    centred: bool = True,
    axes_from: str = "this prompt",
    texts: Sequence[str] = (),
    keep_sinks: bool = False,
) -> list[Cell]:
    """axes_from: this prompt, bundled texts, or a text given here, and then `texts`."""
    shared = f"layers=[{layer!r}], target={target!r}, of={of!r}, keep_sinks={keep_sinks!r}"
    lines = ["reference = None  # the prompt's own axes"]
    if axes_from != "this prompt":
        bundled = axes_from == "bundled texts"
        lines = [
            "texts = npt_viz.bundled_texts('heldout')" if bundled else f"texts = {list(texts)!r}",
            "reference = npt_viz.reference_vectors(",
            f"    model, checkpoint, texts, {shared}, mode={question.mode!r}, positions={question.positions!r}",
            ")",
        ]
    return [
        Cell(
            "Shares of v_a's energy in the common directions.",
            (
                *lines,
                "result = npt_viz.orthogonality(",
                f"    model, checkpoint, run, {shared}, reference=reference, top={top!r}, centred={centred!r}",
                ")",
            ),
            "result",
        ),
        _answer(f"result, layer={layer!r}, axes_from={axes_from!r}"),
        Cell(
            "The numbers behind it.",
            (f"print(result.layers[{layer!r}].shares, result.layers[{layer!r}].random)",),
        ),
    ]


def _attribution(
    question: Question,
    *,
    quantity: Mapping[str, Any],
    methods: Sequence[str] = ("ablation",),
    baseline: str = "eos",
    steps: int = 128,
) -> list[Cell]:
    """quantity: the fields of Quantity."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in quantity.items())
    return [
        Cell(
            "How much each token contributes to one number at the pinned one.",
            (
                f"quantity = npt_viz.Quantity({arguments})",
                "results = [",
                "    npt_viz.attribution(",
                f"        model, checkpoint, question, quantity, method=method, baseline={baseline!r}, steps={steps!r}",
                "    )",
                f"    for method in {list(methods)!r}",
                "]",
            ),
            "results[0]",
        ),
        _answer("results[0]"),
        Cell(
            "The numbers behind it.",
            ("for result in results:", "    print(result.method, result.value, result.scores)"),
        ),
    ]


def _permanent_update(
    question: Question,
    *,
    layers: Sequence[int],
    tokens: int | Sequence[int] | str,
    prompt: str,
    alpha: float = 1.0,
    rule: Mapping[str, Any] | None = None,
    beneath: Beneath = Beneath(),
) -> list[Cell]:
    """tokens: positions in the question's prompt, or all. prompt: where the effect is looked at. rule: the fields of
    UpdateRule that are not at their defaults. beneath: earlier updates of the ledger."""
    source = "run.token_ids" if _is_rewritten(question) else "question.prompt"
    arguments = ", ".join(f"{name}={value!r}" for name, value in (rule or {}).items())
    chosen = list(tokens) if isinstance(tokens, Sequence) and not isinstance(tokens, str) else tokens
    ledger = ", ledger=ledger" if beneath.digests else ""
    return [
        Cell(
            "The update from the modulation at these tokens, and what it does to the prediction.",
            (
                *_ledger("ledger", beneath),
                f"rule = npt_viz.UpdateRule({arguments})",
                "preview = npt_viz.preview_update(",
                f"    model, checkpoint, {source}, layer={list(layers)!r}, token={chosen!r}, alpha={alpha!r}, prompt={prompt!r},",
                f"    rule=rule{ledger},",
                ")",
            ),
        ),
        _answer("preview"),
        Cell("The numbers behind it.", ("print(preview.kl)", "print(*preview.next_tokens, sep='\\n')")),
    ]


def _transplant(
    question: Question,
    *,
    prompt: str,
    layers: Sequence[int],
    donor_token: int,
    token: int = -1,
    operation: str = "replace",
    strength: float = 1.0,
) -> list[Cell]:
    """prompt: the receiving one; the question's is the donor."""
    return [
        Cell(
            "One token's ΔW at a token of another prompt.",
            (
                "result = npt_viz.transplant(",
                f"    model, checkpoint, run.token_ids, {prompt!r}, layers={list(layers)!r}, donor_token={donor_token!r},",
                f"    token={token!r}, operation={operation!r}, strength={strength!r}, mode={question.mode!r},",
                f"    positions={question.positions!r},",
                ")",
            ),
        ),
        _answer("result"),
        Cell(
            "The numbers behind it.",
            ("print(result.transplanted.kl)", "print(*result.next_tokens, sep='\\n')"),
        ),
    ]


def _compare(
    question: Question,
    *,
    layers: tuple[int, int],
    of_a: Question,
    checkpoint_of_a: str = "",
    semantics_of_a: str = "",
    beneath: tuple[Beneath, Beneath] = (Beneath(), Beneath()),
    metric: str = "relative_error",
    keep_sinks: bool = False,
) -> list[Cell]:
    """The question is B's. layers: looked at in A and in B. checkpoint_of_a: B's where it is empty. beneath: the updates that
    lie beneath A and beneath B, by what they write: another order or another ledger in the recipe changes nothing."""
    opened = "other = checkpoint"
    if checkpoint_of_a:
        semantics = f", semantics={semantics_of_a!r}" if semantics_of_a else ""
        opened = f"other = npt_viz.open_checkpoint({checkpoint_of_a!r}, model{semantics})"
    ledgers = tuple(
        line for name, each in zip("ab", beneath, strict=True) for line in _ledger(f"beneath_{name}", each)
    )
    edits = [
        f", edits=beneath_{name}" if each.digests else "" for name, each in zip("ab", beneath, strict=True)
    ]
    again = (f"run = npt_viz.inspect(model, checkpoint, question{edits[1]})",) if edits[1] else ()
    return [
        Cell(
            "A, with which the prompt above, B, is compared.",
            (*ledgers, opened, f"a = npt_viz.inspect(model, other, {_written(of_a)}{edits[0]})", *again),
            "a",
        ),
        Cell(
            "Both aligned, token by token.",
            (f"found = npt_viz.compare(a, run, layer={tuple(layers)!r})",),
            "found",
        ),
        _answer(f"found, metric={metric!r}, keep_sinks={keep_sinks!r}"),
        Cell(
            "The numbers behind it, and all of them as a table.",
            (f"print(found.columns({metric!r}).difference)", "frame = found.to_frame()"),
            "frame",
        ),
    ]


def _ledger(name: str, beneath: Beneath) -> tuple[str, ...]:
    """Lines that make the ledger of some updates; none where there are none."""
    if not beneath.digests:
        return ()
    return (
        "# A recipe of the ledger: exported from Permanent update, or by `edit --export DIR --kind recipe`.",
        f"{name} = npt_viz.Ledger(model)",
        f"digests = {list(beneath.digests)!r}",
        f"{name}.apply_all(npt_viz.updates_from_recipe({beneath.recipe!r}, model, digests=digests))",
    )


def _is_rewritten(question: Question) -> bool:
    """Whether the tokens are not those of the text alone."""
    return question.chat or question.bos != "auto" or not isinstance(question.prompt, str)


def _answer(of: str) -> Cell:
    return Cell("What the page says.", (f"print(npt_viz.answer({of}))",))


_PAGES = {
    "tokens": _tokens,
    "reconstruction": _reconstruction,
    "directions": _directions,
    "orthogonality": _orthogonality,
    "attribution": _attribution,
    "permanent_update": _permanent_update,
    "transplant": _transplant,
    "compare": _compare,
}


def _markdown(words: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": words}


def _quoted(sentence: str) -> dict:
    # A prompt may have Markdown in it: a code block shows it as it is.
    fence = "`" * (3 + sentence.count("`"))
    return _markdown(f"The page said:\n\n{fence}text\n{sentence}\n{fence}")


def _code(lines: Sequence[str]) -> dict:
    return {
        "cell_type": "code",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": "\n".join(lines),
    }
