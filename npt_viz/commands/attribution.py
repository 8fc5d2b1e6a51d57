"""Which tokens of the prompt drive one number at the pinned token."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from npt_viz.commands._looking import AskedPage, Looked, looked_at, told
from npt_viz.commands._options import Target, with_shared_options, words
from npt_viz.commands._output import progress, say, table

if TYPE_CHECKING:
    from npt_viz.results.attribution import Attribution, Quantity

STEPS = 128
"""Of integrated gradients, as the page begins; analysis/attribution.py has the measurement."""


@with_shared_options
def run(
    asked: AskedPage,
    *,
    kind: Annotated[
        Literal["scalar", "update_norm", "logit"],
        typer.Option("--kind", help="The number: v_a·x, ‖ΔW‖_F or a next-token logit."),
    ] = "scalar",
    target: Target = None,
    component: Annotated[
        int | None,
        typer.Option("--component", help="Of the scalar; the one that adds most at the token by default."),
    ] = None,
    of_model: Annotated[Literal["NPT", "base"], typer.Option("--of-model", help="Whose logit.")] = "NPT",
    of: Annotated[
        int | None,
        typer.Option(
            "--of", metavar="ID", help="Token id of the logit; the base's most probable by default."
        ),
    ] = None,
    against: Annotated[
        int | None, typer.Option("--against", metavar="ID", help="Token id of a logit that is taken off.")
    ] = None,
    methods: Annotated[
        str,
        typer.Option("--methods", help="Some of ablation, integrated_gradients, gradient_x_activation."),
    ] = "ablation",
    baseline: Annotated[
        Literal["eos", "pad"], typer.Option("--baseline", help="The stand-in token.")
    ] = "eos",
    steps: Annotated[int, typer.Option("--steps", help="Of integrated gradients.")] = STEPS,
) -> None:
    """Divide a scalar, ‖ΔW‖ or a logit up among the tokens of the prompt, by one method or several."""
    looked = looked_at(asked)
    quantity = quantity_of(
        looked, kind=kind, target=target, component=component, of_model=of_model, of=of, against=against
    )
    results = _attributions(looked, quantity, words(methods), baseline, steps)
    found = attribution_json(results)
    told(
        looked,
        found,
        in_words(looked, found, results),
        page=lambda: page(looked, found["sentence"], results),
        name="attribution",
        choices={
            "quantity": asdict(quantity),
            "methods": words(methods),
            "baseline": baseline,
            "steps": steps,
        },
    )
    for note in dict.fromkeys(note for each in results for note in each.notes):
        say(f"note: {note}")


def quantity_of(
    looked: Looked,
    *,
    kind,
    target: str | None,
    component: int | None,
    of_model,
    of: int | None,
    against: int | None,
) -> "Quantity":
    """The number that is asked about; what was not chosen is what the page begins with."""
    from npt_viz.results.attribution import Quantity

    if kind == "logit":
        if of is None:
            assert looked.run.base_top is not None, "the prediction was run"
            of = looked.run.base_top.rows(looked.token)[0][1]
        return Quantity(kind=kind, token=looked.token, model=of_model, token_id=of, against=against)
    layer = looked.run.layers[looked.layer]
    target = target or next(iter(layer.scalars))
    if component is None:
        component = layer.strongest_component(target, looked.token) if target in layer.scalars else 0
    return Quantity(
        kind=kind,
        token=looked.token,
        layer=looked.layer,
        target=target,
        component=component if kind == "scalar" else 0,
    )


def _attributions(
    looked: Looked, quantity: "Quantity", methods: list[str], baseline: str, steps: int
) -> "list[Attribution]":
    from dataclasses import replace

    from npt_viz.analysis.attribution import attribution

    if not methods:
        raise typer.BadParameter("name at least one method", param_hint="--methods")
    ids = replace(looked.question, prompt=tuple(looked.run.token_ids), chat=False, bos="auto")
    return [
        attribution(
            looked.model,
            looked.checkpoint,
            ids,
            quantity,
            method=method,
            baseline=baseline,
            steps=steps,
            progress=lambda done, total, method=method: progress(method, done / total),
        )
        for method in methods
    ]


def attribution_json(results: "list[Attribution]") -> dict:
    """The page's numbers; scores that may not be shown have a "problem" and are null."""
    from npt_viz.results.attribution import METHODS, rank_correlation
    from npt_viz.results.sentences.attribution import attribution

    good = [each for each in results if each.problem is None]
    by_method = {
        each.method: {
            "label": METHODS[each.method].label,
            "sentence": str(attribution(each)) if each.problem is None else each.problem,
            "problem": each.problem,
            "scores": each.scores if each.problem is None else None,
            "value": each.value,
            "baseline_value": each.baseline_value,
            "delta": each.delta,
            "relative_delta": each.relative_delta,
            "strongest": each.strongest,
            "baseline": each.baseline,
            "steps": each.steps,
            "forwards": each.forwards,
            "rank_correlations": {other.method: rank_correlation(each, other) for other in good}
            if each.problem is None
            else {},
        }
        for each in results
    }
    return {
        "sentence": by_method[(good or results)[0].method]["sentence"],
        "quantity": results[0].quantity,
        "name": results[0].name,
        "methods": by_method,
    }


def in_words(looked: Looked, found: dict, results: "list[Attribution]") -> str:
    """The sentence of every method, and the scores side by side."""
    good = [each for each in results if each.problem is None]
    rows = [
        (i, looked.run.tokens[i], *(float(each.scores[i]) for each in good)) for i in range(looked.token + 1)
    ]
    sentences = [each["sentence"] for each in found["methods"].values()]
    headings = ("#", "token", *(each.method for each in good))
    return "\n\n".join([*sentences, table(headings, rows)] if good else sentences)


def page(looked: Looked, sentence: str, results: "list[Attribution]") -> str:
    """The page's bars and its table of checks as one HTML file."""
    from npt_viz.figures.attribution import scores_by_method
    from npt_viz.figures.document import document, drawn, heading, note, paragraph, rows
    from npt_viz.results.attribution import METHODS
    from npt_viz.results.words import number, tenths

    good = [each for each in results if each.problem is None]
    blocks = [paragraph(sentence)]
    if good:
        blocks.append(drawn(scores_by_method(good, pin=looked.token, shown=looked.shown)))
    blocks += [note(each.problem) for each in results if each.problem]
    blocks += [
        heading("How far each method can be believed"),
        rows(
            ["method", "value", "all replaced", "sum of scores", "delta", "forwards"],
            [
                (
                    METHODS[each.method].label,
                    number(each.value),
                    number(each.baseline_value),
                    number(float(each.scores.sum())),
                    tenths(each.relative_delta),
                    each.forwards,
                )
                for each in good
            ],
        ),
    ]
    return document(f"Attribution: {looked.run.checkpoint} on {looked.run.model}", blocks)
