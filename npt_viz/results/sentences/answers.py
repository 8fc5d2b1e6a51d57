"""The sentence of a page, from the result that the page is about."""

from collections.abc import Sequence
from typing import Any

from npt_viz.arguments import checked
from npt_viz.errors import NptVizError
from npt_viz.results.attribution import Attribution
from npt_viz.results.comparison import Comparison
from npt_viz.results.directions import Directions, Unavailable
from npt_viz.results.health import HealthReport
from npt_viz.results.inspection import Inspection
from npt_viz.results.orthogonality import Orthogonality
from npt_viz.results.reconstruction import ClassFloor, PositionsCompared
from npt_viz.results.sentences import Basis
from npt_viz.results.sentences.attribution import attribution
from npt_viz.results.sentences.comparison import comparison
from npt_viz.results.sentences.directions import directions
from npt_viz.results.sentences.editing import transplant, update
from npt_viz.results.sentences.health import health
from npt_viz.results.sentences.orthogonality import orthogonality
from npt_viz.results.sentences.reconstruction import answer as reconstruction
from npt_viz.results.sentences.tokens import tokens
from npt_viz.results.transplant import Transplant


@checked
def answer(
    result: Any,
    run: Inspection | None = None,
    *,
    layer: int | None = None,
    keep_sinks: bool = False,
    axes_from: str = "this prompt",
    floors: Sequence[ClassFloor] = (),
    metric: str = "recovered",
) -> str:
    """What the page says of a result: of `inspect`, `positions_compared` (with its run), `directions`, `orthogonality`,
    `attribution`, `compare`, `health`, `transplant`, `preview_update`.

    layer: where the result has several; the highest by default. keep_sinks: as the result was made, where it does not say.
    axes_from: of orthogonality, where its axes are from. floors: of reconstruction, what the shape allows.
    metric: of compare, the number that is compared.
    Raises NptVizError for a result that no page is about, and for a metric that is none.
    """
    match result:
        case Inspection():
            return str(tokens(result, _of(result.layers, layer), with_sinks=keep_sinks))
        case PositionsCompared() if run is not None:
            chosen = _of(result.deployed.layers, layer)
            return str(reconstruction(result, run, chosen, with_sinks=keep_sinks, floors=floors))
        case Directions() if result.prompt is not None:
            return str(directions(result, Basis.of_prompt(result.prompt)))
        case Orthogonality() if result.prompt is not None:
            of_layer = result.layers[_of(result.layers, layer)]
            if isinstance(of_layer, Unavailable):
                return of_layer.sentence
            return str(orthogonality(of_layer, Basis.of_prompt(result.prompt), axes_from=axes_from))
        case Attribution():
            return result.problem or str(attribution(result))
        case Comparison():
            return str(comparison(result, metric, with_sinks=keep_sinks))
        case HealthReport():
            return str(health(result))
        case Transplant():
            return str(transplant(result))
        case Unavailable():
            return result.sentence
    if all(hasattr(result, name) for name in ("update", "before", "after", "recovery")):
        return _of_update(result)
    raise NptVizError(
        f"no page says a sentence of {type(result).__name__}; give a result of inspect, positions_compared (and the run), "
        "directions, orthogonality, attribution, compare, health, transplant or preview_update"
    )


def _of(layers, layer: int | None) -> int:
    if layer is None:
        return max(layers)
    if layer not in layers:
        raise NptVizError(f"layer {layer} is not in the result; it has {', '.join(map(str, sorted(layers)))}")
    return layer


def _of_update(preview: Any) -> str:
    """Of an UpdatePreview, whose home lies above."""
    made, origins = preview.update, preview.update.origins
    sources = tuple(each for origin in origins for each in zip(origin.glyphs, origin.tokens, strict=True))
    mode, positions = (
        " and ".join(dict.fromkeys(getattr(origin, name) for origin in origins))
        for name in ("mode", "positions")
    )
    return str(
        update(
            sources,
            made.layers,
            made.alpha,
            preview.pieces,
            preview.before,
            preview.after,
            preview.recovery,
            mode=mode,
            positions=positions,
        )
    )
