"""Results as HTML for a notebook cell: a sentence, then the figures. Nothing is fetched; token text is text.

plotly's own script is large, so the first figure that a process shows brings it and the later ones use it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from npt_viz.figures import attribution, comparison, directions, orthogonality, parts, reconstruction
from npt_viz.figures.document import drawn, heading, note, paragraph, rows
from npt_viz.figures.maps import layer_by_token, window
from npt_viz.figures.theme import colour_scale
from npt_viz.figures.token_view.alone import standalone_view
from npt_viz.results.attribution import Attribution
from npt_viz.results.comparison import Comparison
from npt_viz.results.directions import Directions, PromptTokens, Unavailable
from npt_viz.results.estimate import median_of
from npt_viz.results.health import HealthReport
from npt_viz.results.inspection import METRICS, Inspection
from npt_viz.results.orthogonality import LayerOrthogonality, Orthogonality
from npt_viz.results.reconstruction import Reconstruction
from npt_viz.results.sentences import Basis
from npt_viz.results.sentences.attribution import attribution as attribution_in_words
from npt_viz.results.sentences.comparison import comparison as comparison_in_words
from npt_viz.results.sentences.directions import directions as directions_in_words
from npt_viz.results.sentences.health import health as health_in_words
from npt_viz.results.sentences.orthogonality import orthogonality as orthogonality_in_words
from npt_viz.results.sentences.reconstruction import reconstruction as reconstruction_in_words
from npt_viz.results.sentences.tokens import tokens as tokens_in_words
from npt_viz.results.words import number

STYLE = """
<style>.npt-shown { background: #fff; color: #23262d; font: 13px/1.5 system-ui, sans-serif; padding: 4px 8px; max-width: 1080px }
.npt-shown h2 { font-size: 1.05em; margin: 1.2em 0 .3em } .npt-shown .note { color: #5c6370; font-size: 12px }
.npt-shown table { border-collapse: collapse; font-size: 12px } .npt-shown th, .npt-shown td { padding: .15rem .7rem; text-align: left }</style>
"""

LOST = (
    "<p class=npt-lost hidden>Run the first cell that shows a figure again: it brings plotly, which draws this one.</p>"
    "<script>if (!window.Plotly) document.querySelectorAll('.npt-lost').forEach((each) => (each.hidden = false))</script>"
)
"""What stands where the output with plotly was cleared."""

_brought: list[str] = []
"""What this process has put into a notebook already."""


def html_of(result: object) -> str:
    """A result as HTML for a cell."""
    return f"{STYLE}<div class=npt-shown>{''.join(_SHOWN[type(result)](result))}</div>"


def _figure(figure: go.Figure) -> str:
    """A figure; the first one of a process has plotly with it."""
    if _brought:
        library = LOST
    else:
        _brought.append("plotly")
        library = f"<script>{get_plotlyjs()}</script>"
    return library + drawn(figure)


def _inspection(run: Inspection) -> list[str]:
    layer = max(run.layers)
    return [
        note(f"{run.checkpoint} on {run.model}"),
        paragraph(str(tokens_in_words(run, layer))),
        standalone_view(run, layer=layer),
        *map(note, run.notes),
    ]


def _reconstruction(result: Reconstruction) -> list[str]:
    layer, mode = max(result.layers), "local"
    fit = result.fits(mode)[layer]
    values = np.stack([result.local[each].recovered for each in result.layers])
    pin = (layer, (result.worst(layer, mode, 1) or [0])[0])
    cells = [
        (each, which, *(number(result.median(name, each, which)) for name in ("recovered", "relative_error", "cosine")))
        for each in result.layers
        for which in ("local", "propagated")
    ]  # fmt: skip
    return [
        *(paragraph(str(reconstruction_in_words(result, each))) for each in result.layers),
        rows(["layer", "mode", "recovered", "error", "cosine"], cells),
        heading("Share recovered by layer and token"),
        _figure(
            layer_by_token(
                values,
                layers=result.layers,
                tokens=result.tokens,
                scale=colour_scale(METRICS["recovered"], values[:, ~result.is_sink]),
                left_out=result.is_sink,
                pin=pin,
                shown=window(len(result.tokens), pin[1]),
            )
        ),
        heading(f"The error of layer {layer}, along a and beside it"),
        _figure(reconstruction.error_parts(fit, tokens=result.tokens, left_out=result.is_sink, pin=pin[1])),
        *map(note, result.notes),
    ]


def _directions(result: Directions) -> list[str]:
    prompt = _tokens_of(result.prompt, result.tokens)
    pin = int(result.tokens[0])
    shown = window(len(prompt.glyphs), pin)
    blocks = [paragraph(str(directions_in_words(result, Basis.of_prompt(prompt))))]
    blocks += [note(verdict.sentence) for verdict in result.verdicts]
    figures: Sequence[tuple[str, Any, Callable[[Any], go.Figure]]] = (
        (
            "Agreement with the exact patch",
            result.exact,
            lambda each: directions.agreement(
                each,
                tokens=prompt.glyphs,
                left_out=prompt.is_sink & (not prompt.keep_sinks),
                pin=pin,
                shown=shown,
            ),
        ),
        (
            "Alignment of ΔW, token by token",
            result.alignment,
            lambda each: directions.alignment_map(each, tokens=prompt.glyphs, pin=pin),
        ),
        (
            "Units moved most",
            result.units,
            lambda each: parts.moved_units(each, tokens=prompt.glyphs, pin=pin),
        ),
        ("Share of each component", result.components, lambda each: parts.component_shares(each)),
    )
    for title, part, draw in figures:
        blocks.append(heading(title))
        blocks.append(note(part.sentence) if isinstance(part, Unavailable) else _figure(draw(part)))
    return [*blocks, *map(note, result.notes)]


def _orthogonality(result: Orthogonality) -> list[str]:
    blocks = []
    for layer, each in result.layers.items():
        if not isinstance(each, LayerOrthogonality):
            blocks += [heading(f"Layer {layer}"), note(each.sentence)]
            continue
        prompt = _tokens_of(result.prompt, np.arange(len(each.shares)))
        basis = Basis.of_prompt(prompt)
        axes = "this prompt" if result.from_prompt else "a text given here"
        along, top = (median_of(basis.of(shares)) for shares in (each.mean_shares, each.shares))
        blocks += [
            paragraph(str(orthogonality_in_words(each, basis, axes_from=axes))),
            _figure(orthogonality.against_random(each, along=along, top=top)),
            _figure(orthogonality.share_curve(each)),
            *map(note, each.notes),
        ]
    return blocks


def _attribution(result: Attribution) -> list[str]:
    if result.problem:
        return [paragraph(result.problem)]
    pin = result.quantity.token
    shown = window(len(result.tokens), pin)
    return [
        paragraph(str(attribution_in_words(result))),
        _figure(attribution.scores_by_method([result], pin=pin, shown=shown)),
        *map(note, result.notes),
    ]


def _health(report: HealthReport) -> list[str]:
    cells = [
        (
            finding.severity,
            "" if finding.layer is None else finding.layer,
            finding.title,
            finding.meaning,
            ", ".join(f"{name} {number(value)}" for name, value in finding.evidence.items()),
            finding.action,
        )
        for finding in report.findings
    ]
    return [
        note(f"{report.checkpoint} on {report.model}"),
        paragraph(str(health_in_words(report))),
        *([rows(["severity", "layer", "finding", "meaning", "evidence", "try"], cells)] if cells else []),
        *map(note, report.notes),
    ]


def _tokens_of(prompt: PromptTokens | None, positions: np.ndarray) -> PromptTokens:
    """The prompt's tokens; their numbers where a result made by hand has none."""
    if prompt is not None:
        return prompt
    n_tokens = int(positions.max()) + 1
    return PromptTokens(
        glyphs=tuple(f"token {i}" for i in range(n_tokens)),
        mode="local",
        positions="deployed",
        is_sink=np.zeros(n_tokens, bool),
        keep_sinks=False,
    )


def _comparison(result: Comparison) -> list[str]:
    metric = "recovered"
    largest = result.largest(metric, 1)
    pin = largest[0].column if largest else None
    return [
        *(note(f"{name}: {side.setting}") for name, side in zip("AB", result.sides, strict=True)),
        paragraph(str(comparison_in_words(result, metric))),
        _figure(comparison.differences(result, metric, pin=pin)),
        _figure(comparison.b_against_a(result, metric, pin=pin)),
    ]


_SHOWN: dict[type, Callable[[Any], list[str]]] = {
    Inspection: _inspection,
    Reconstruction: _reconstruction,
    Directions: _directions,
    Orthogonality: _orthogonality,
    Attribution: _attribution,
    HealthReport: _health,
    Comparison: _comparison,
}
