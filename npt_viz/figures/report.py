"""An experiment as one HTML file that needs nothing else: no server, no network."""

import html

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from npt_viz.figures.experiments import CURVES, aligned_curves, arm_strips, final_numbers
from npt_viz.figures.theme import number
from npt_viz.results.experiments import MEASURES, ExperimentResult
from npt_viz.results.sentences.experiments import experiment as sentence_of

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #23262d; max-width: 1080px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; font-size: 13px } th, td { padding: .25rem .7rem; text-align: right }
th { border-bottom: 1px solid #868b95 } td:first-child, th:first-child { text-align: left }
.note { color: #5c6370; font-size: 13px } .worse { color: #3b7fba } .better { color: #a95012 }
"""


def report(result: ExperimentResult) -> str:
    """The page: answer, tables, curves, tokens, findings. Names and tokens are text in it, never markup."""
    parts = [
        f"<h1>{_text(result.name)}</h1>",
        f"<p>{_text(str(sentence_of(result)))}</p>",
        f"<p class=note>{_text(_about(result))}</p>",
        f"<p class=note>{_text(result.setup)}</p>",
        "<h2>Arms</h2>",
        _rows(["arm", "minimises"], [[name, losses] for name, losses in result.arms.items()]),
    ]
    for measure in ("recovered", "median_kl", "perplexity"):
        parts += [
            f"<h2>{_text(MEASURES[measure].label)}</h2><p class=note>{_text(MEASURES[measure].meaning)}</p>",
            _figure(final_numbers(result, measure)),
            comparison_table(result, measure),
        ]
    for layer in result.layers:
        for column, title in CURVES.items():
            figure = aligned_curves(result, column, layer=layer)
            if figure.data:
                parts += [f"<h2>{_text(title)}, layer {layer}</h2>", _figure(figure)]
    for column in _strip_columns(result):
        figure = arm_strips(result, column, seed=result.seeds[0])
        if figure is not None:
            parts += [f"<h2>The prompt, {_text(column)}</h2>", _figure(figure)]
    parts += [
        "<h2>Health</h2>",
        _rows(["arm", "seed", "state", "findings and alarms"], list(_health(result))),
    ]
    parts += [f"<p class=note>{_text(note)}</p>" for note in result.notes]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{_text(result.name)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script>"
        f"<body>{''.join(parts)}</body></html>"
    )


def comparison_table(result: ExperimentResult, measure: str) -> str:
    rows = [
        [
            comparison.arm, str(len(comparison.values)), number(comparison.mean), number(comparison.spread), number(comparison.difference),
            number(comparison.half_width), comparison.verdict,
        ]
        for comparison in result.comparisons(measure)
    ]  # fmt: skip
    return _rows(["arm", "seeds", "mean", "spread", "difference", "± (95 %, joint)", "verdict"], rows)


def _about(result: ExperimentResult) -> str:
    fair = (
        "the arms of a seed began with the same weights and saw the same batches"
        if result.is_fair
        else f"NOT comparable: the arms of seed {result.unfair_seeds[0]} did not begin alike"
    )
    seeds = ", ".join(map(str, result.seeds))
    return f"{result.n_finished} of {result.n_runs} runs finished, {result.steps:,} steps each, seeds {seeds}; {fair}."


def _strip_columns(result: ExperimentResult) -> list[str]:
    strip = next((run.strip for run in result.runs if run.strip), None)
    return [] if strip is None else [name for name in strip.columns if name.endswith(("recovered", "kl"))]


def _health(result: ExperimentResult):
    for run in result.runs:
        told = [f"{finding.severity}: {finding.title}" for finding in run.findings]
        told += [f"{alarm.severity} at step {alarm.step}: {alarm.rule}" for alarm in run.alarms]
        yield [run.arm, str(run.seed), run.state, run.error or "; ".join(told) or "–"]


def _figure(figure: go.Figure) -> str:
    figure.update_layout(width=None)
    return figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
    )


def _rows(headers: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in headers)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _text(value: str) -> str:
    return html.escape(str(value))
