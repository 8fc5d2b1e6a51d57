"""Whether v_a points into the directions that all tokens share."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from npt_viz.commands._looking import AskedPage, Looked, looked_at, told
from npt_viz.commands._options import KeepSinks, Target, with_shared_options

if TYPE_CHECKING:
    from npt_viz.results.orthogonality import Orthogonality


@with_shared_options
def run(
    asked: AskedPage,
    *,
    target: Target = None,
    of: Annotated[
        Literal["h", "input"] | None,
        typer.Option(
            "--of",
            help="Whose axes: h, the residual stream, or input, what the projection reads; h by default, except for down.",
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Axes that count as common, q.")] = 10,
    not_centred: Annotated[
        bool, typer.Option("--not-centred", help="Keep the mean when the axes are found.")
    ] = False,
    sample: Annotated[
        bool, typer.Option("--sample", help="Axes of the bundled texts instead of the prompt's own.")
    ] = False,
    text: Annotated[
        str | None, typer.Option("--text", metavar="FILE", help="Axes of a .txt or .jsonl file instead.")
    ] = None,
    keep_sinks: KeepSinks = False,
) -> None:
    """Share of v_a's energy along the mean and in the common directions, in each layer, against a random vector's."""
    if sample and text is not None:
        raise typer.BadParameter("choose --sample or --text", param_hint="--text")
    looked = looked_at(asked, keep_sinks=keep_sinks)
    of = of or ("input" if _reads_down(looked, target) else "h")
    texts = _texts(sample, text)
    result = _orthogonality(
        looked,
        target=target,
        of=of,
        texts=texts,
        top=top,
        centred=not not_centred,
    )
    axes_from = "bundled texts" if sample else "this prompt" if text is None else "a text given here"
    found = orthogonality_json(looked, result, axes_from)
    told(
        looked,
        found,
        "\n\n".join(each["sentence"] for each in found["layers"].values()),
        page=lambda: page(looked, result, found["sentence"]),
        name="orthogonality",
        choices={
            "layer": looked.layer,
            "target": target or looked.run.layers[looked.layer].targets[0],
            "of": of,
            "top": top,
            "centred": not not_centred,
            "axes_from": axes_from,
            "texts": () if sample else texts,
            "keep_sinks": keep_sinks,
        },
    )


def _reads_down(looked: Looked, target: str | None) -> bool:
    """Whether v_a of the pinned layer reads m, which has other directions than h."""
    return (target or looked.run.layers[looked.layer].targets[0]) == "down"


def _texts(sample: bool, text: str | None) -> list[str]:
    from npt_viz.texts import bundled_texts, texts_from_file

    if sample:
        return bundled_texts("heldout")
    return [] if text is None else texts_from_file(text)


def _orthogonality(
    looked: Looked, *, target: str | None, of, texts: list[str], top: int, centred: bool
) -> "Orthogonality":
    from npt_viz.analysis.orthogonality import orthogonality, reference_vectors

    layers, question = sorted(looked.run.layers), looked.question
    reference = None
    if texts:
        reference = reference_vectors(
            looked.model,
            looked.checkpoint,
            texts,
            layers=layers,
            target=target,
            of=of,
            mode=question.mode,
            positions=question.positions,
            keep_sinks=looked.keep_sinks,
        )
    return orthogonality(
        looked.model,
        looked.checkpoint,
        looked.run,
        layers=layers,
        target=target,
        of=of,
        reference=reference,
        top=top,
        centred=centred,
        keep_sinks=looked.keep_sinks,
        kept_pass=looked.kept_pass,
    )


def orthogonality_json(looked: Looked, result: "Orthogonality", axes_from: str) -> dict:
    """The page's numbers for every layer; a layer that has none says why under "sentence"."""
    from npt_viz.results.directions import Unavailable
    from npt_viz.results.sentences.orthogonality import orthogonality

    layers = {}
    for layer, each in result.layers.items():
        if isinstance(each, Unavailable):
            layers[layer] = {"sentence": each.sentence}
            continue
        layers[layer] = {
            "sentence": str(orthogonality(each, looked.basis, axes_from=axes_from)),
            "share": each.share,
            "mean_share": each.mean_share,
            "random": each.random,
            "result": each,
        }
    return {"sentence": layers[looked.layer]["sentence"], "axes_from": axes_from, "layers": layers}


def page(looked: Looked, results: "Orthogonality", sentence: str) -> str:
    """The page's figures of the pinned layer, and the map of all layers, as one HTML file."""
    from npt_viz.figures import orthogonality as figures
    from npt_viz.figures.document import document, drawn, heading, note, paragraph
    from npt_viz.results.directions import Unavailable
    from npt_viz.results.estimate import median_of

    run, result = looked.run, results.layers[looked.layer]
    blocks = [paragraph(sentence)]
    if not isinstance(result, Unavailable):
        along, top = (median_of(looked.basis.of(each)) for each in (result.mean_shares, result.shares))
        blocks += [
            drawn(figures.against_random(result, along=along, top=top)),
            *map(note, result.notes),
            heading("Share of v_a in the first q axes"),
            drawn(figures.share_curve(result)),
            heading(f"Spectrum of {result.of}"),
            drawn(figures.spectrum(result)),
            heading(f"Share in the top {result.top}, token by token"),
            drawn(figures.share_profile(result, tokens=run.tokens, pin=looked.token, shown=looked.shown)),
            heading("Principal angles"),
            drawn(figures.principal_angles(result)),
        ]
    every = [each for each in results.layers.values() if not isinstance(each, Unavailable)]
    if len(every) > 1:
        pin = (looked.layer, looked.token)
        blocks += [heading("Every layer")]
        blocks += [drawn(figures.share_map(every, tokens=run.tokens, pin=pin, shown=looked.shown))]
    return document(f"Orthogonality: {run.checkpoint} on {run.model}", blocks)
