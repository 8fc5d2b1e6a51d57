"""Whether what the modulation adds differs from token to token, or collapses."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from npt_viz.commands._looking import AskedPage, Looked, looked_at, told
from npt_viz.commands._options import KeepSinks, Target, with_shared_options

if TYPE_CHECKING:
    from npt_viz.results.directions import DirectionMap, Directions, DirectionVocabulary, Unavailable


@with_shared_options
def run(
    asked: AskedPage,
    *,
    target: Target = None,
    quantity: Annotated[
        Literal["s·v_b", "v_b", "v_a"], typer.Option("--quantity", help="Vectors on the map.")
    ] = "s·v_b",
    component: Annotated[
        int | None, typer.Option("--component", help="Of the map; the sum over components by default.")
    ] = None,
    direction: Annotated[
        Literal["this token", "mean", "axis 1", "axis 2"],
        typer.Option("--direction", help="Whose next tokens are listed."),
    ] = "this token",
    keep_sinks: KeepSinks = False,
) -> None:
    """Compare v_a, v_b and ΔW over the tokens of a prompt, in each layer, against chance and the exact patch."""
    looked = looked_at(asked, keep_sinks=keep_sinks)
    results = {layer: _directions(looked, layer, target) for layer in sorted(looked.run.layers)}
    maps = {layer: _map(looked, layer, target, quantity, component) for layer in results}
    vocabulary = _vocabulary(looked, target, direction)
    found = directions_json(looked, results, maps, vocabulary)
    told(
        looked,
        found,
        "\n\n".join(each["sentence"] for each in found["layers"].values()),
        page=lambda: page(looked, found["sentence"], results[looked.layer], maps[looked.layer], vocabulary),
        name="directions",
        choices={
            "layer": looked.layer,
            "target": target or looked.run.layers[looked.layer].targets[0],
            "keep_sinks": keep_sinks,
        },
    )


def _directions(looked: Looked, layer: int, target: str | None) -> "Directions | Unavailable":
    from npt_viz.analysis.directions import directions
    from npt_viz.results.directions import Unavailable

    return Unavailable.unless(
        lambda: directions(
            looked.model,
            looked.checkpoint,
            looked.run,
            layer,
            target=target,
            keep_sinks=looked.keep_sinks,
            kept_pass=looked.kept_pass,
        )
    )


def _map(
    looked: Looked, layer: int, target: str | None, quantity: str, component: int | None
) -> "DirectionMap | Unavailable":
    from npt_viz.analysis.direction_map import direction_map
    from npt_viz.results.directions import Unavailable

    return Unavailable.unless(
        lambda: direction_map(
            looked.model,
            looked.checkpoint,
            looked.run,
            layer,
            target=target,
            quantity=quantity,
            component=component,
            keep_sinks=looked.keep_sinks,
            kept_pass=looked.kept_pass,
        )
    )


def _vocabulary(looked: Looked, target: str | None, direction: str) -> "DirectionVocabulary | Unavailable":
    from npt_viz.analysis.direction_vocabulary import direction_vocabulary
    from npt_viz.results.directions import Unavailable

    return Unavailable.unless(
        lambda: direction_vocabulary(
            looked.model,
            looked.checkpoint,
            looked.run,
            looked.layer,
            looked.token,
            target=target,
            direction=direction,
            keep_sinks=looked.keep_sinks,
            kept_pass=looked.kept_pass,
        )
    )


def directions_json(looked: Looked, results: dict, maps: dict, vocabulary) -> dict:
    """The page's numbers for every layer; a layer or part that has none says why under "sentence"."""
    from npt_viz.results.directions import Unavailable
    from npt_viz.results.sentences.directions import directions

    layers = {}
    for layer, result in results.items():
        if isinstance(result, Unavailable):
            layers[layer] = {"sentence": result.sentence}
            continue
        layers[layer] = {
            "sentence": str(directions(result, looked.basis)),
            "collapsed": result.collapsed,
            "result": result,
            "map": maps[layer],
        }
    return {"sentence": layers[looked.layer]["sentence"], "layers": layers, "vocabulary": vocabulary}


def page(looked: Looked, sentence: str, result, part, vocabulary) -> str:
    """The page's figures of the pinned layer as one HTML file."""
    from npt_viz.figures import directions as figures
    from npt_viz.figures import parts
    from npt_viz.figures.card import vocabulary_changes
    from npt_viz.figures.document import document, drawn, heading, note, paragraph
    from npt_viz.figures.theme import colour_scale
    from npt_viz.results.directions import Unavailable
    from npt_viz.results.inspection import METRICS

    run, tokens, pin = looked.run, looked.run.tokens, looked.token
    blocks = [paragraph(sentence)]

    def add(title: str, each, figure) -> None:
        blocks.append(heading(title))
        blocks.append(note(each.sentence) if isinstance(each, Unavailable) else drawn(figure(each)))

    values = run.layers[looked.layer].values("relative_error")
    scale = colour_scale(METRICS["relative_error"], values[~looked.left_out])
    if not isinstance(result, Unavailable):
        add("Directions in use", part, figures.spreads)
        blocks += [note(verdict.sentence) for verdict in result.verdicts]
        add(
            "Map of the tokens",
            part,
            lambda each: figures.direction_map(each, tokens=tokens, values=values, scale=scale, pin=pin),
        )
        add(
            "Agreement with the exact patch",
            result.exact,
            lambda each: figures.agreement(
                each, tokens=tokens, left_out=looked.left_out, pin=pin, shown=looked.shown
            ),
        )
        add(
            "Alignment of ΔW, token by token",
            result.alignment,
            lambda each: figures.alignment_map(each, tokens=tokens, pin=pin),
        )
        add("Units moved most", result.units, lambda each: parts.moved_units(each, tokens=tokens, pin=pin))
        if not isinstance(result.components, Unavailable):
            add("Share of each component", result.components, parts.component_shares)
            add("Alignment of the components", result.components, parts.component_cosines)
        add("Next tokens that the direction speaks for and against", vocabulary, vocabulary_changes)
    return document(f"Directions: {run.checkpoint} on {run.model}", blocks)
