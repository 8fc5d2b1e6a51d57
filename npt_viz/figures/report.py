"""An experiment as one HTML file that needs nothing else: no server, no network."""

from npt_viz.figures.document import document, drawn, heading, note, paragraph, rows
from npt_viz.figures.experiments import CURVES, aligned_curves, arm_strips, final_numbers
from npt_viz.figures.theme import number
from npt_viz.results.experiments import MEASURES, ExperimentResult
from npt_viz.results.sentences.experiments import experiment as sentence_of


def report(result: ExperimentResult) -> str:
    """The page: answer, tables, curves, tokens, findings. Names and tokens are text in it, never markup."""
    parts = [
        paragraph(str(sentence_of(result))),
        note(_about(result)),
        note(result.setup),
        heading("Arms"),
        rows(["arm", "minimises"], list(result.arms.items())),
    ]
    for measure in ("recovered", "median_kl", "perplexity"):
        parts += [
            heading(MEASURES[measure].label),
            note(MEASURES[measure].meaning),
            drawn(final_numbers(result, measure)),
            comparison_table(result, measure),
        ]
    for layer in result.layers:
        for column, title in CURVES.items():
            figure = aligned_curves(result, column, layer=layer)
            if figure.data:
                parts += [heading(f"{title}, layer {layer}"), drawn(figure)]
    for column in _strip_columns(result):
        figure = arm_strips(result, column, seed=result.seeds[0])
        if figure is not None:
            parts += [heading(f"The prompt, {column}"), drawn(figure)]
    parts += [heading("Health"), rows(["arm", "seed", "state", "findings and alarms"], _health(result))]
    return document(result.name, [*parts, *map(note, result.notes)])


def comparison_table(result: ExperimentResult, measure: str) -> str:
    cells = [
        [
            comparison.arm, str(len(comparison.values)), number(comparison.mean), number(comparison.spread), number(comparison.difference),
            number(comparison.half_width), comparison.verdict,
        ]
        for comparison in result.comparisons(measure)
    ]  # fmt: skip
    return rows(["arm", "seeds", "mean", "spread", "difference", "± (95 %, joint)", "verdict"], cells)


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
