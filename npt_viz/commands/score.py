"""Score rules and strengths over a set of facts."""

from collections.abc import Sequence
from typing import Annotated

import typer

from npt_viz.commands._options import AsJson, Checkpoint, Device, Dtype, Model, Semantics, numbers, words
from npt_viz.commands._output import print_json, progress, say, table


def run(
    model: Model,
    checkpoint: Checkpoint,
    layer: Annotated[
        str, typer.Option("--layer", metavar="15", help="NPT layer, or several.", show_default=False)
    ],
    cases: Annotated[
        str | None,
        typer.Option(
            "--cases",
            metavar="FILE",
            help=".jsonl or .csv with context, prompt, new, …; built in by default.",
        ),
    ] = None,
    rules: Annotated[str, typer.Option("--rules")] = "npt,exact,minimum_norm,whitened",
    alphas: Annotated[str, typer.Option("--alphas")] = "1,3,10",
    token: Annotated[int, typer.Option("--token", help="Position in the source.")] = -1,
    semantics: Semantics = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Write every fact by every rule at every strength, each on the untouched base, and score what comes out."""
    strengths = _strengths(alphas)
    layers = numbers("--layer", layer)
    import npt_viz
    from npt_viz.editing.cases import BUILT_IN, cases_from_file
    from npt_viz.editing.judging.study import references, trials
    from npt_viz.editing.making.rules import rule_of

    facts = cases_from_file(cases) if cases else list(BUILT_IN)
    settings = [rule_of(name) for name in words(rules)]
    base = npt_viz.open_model(model, dtype=dtype, device=device, progress=progress)
    opened = npt_viz.open_checkpoint(checkpoint, base, semantics)
    reference_rows = list(references(base, facts))
    judged, total = [], len(facts) * len(settings) * len(strengths)
    for trial in trials(base, opened, facts, layer=layers, token=token, rules=settings, alphas=strengths):
        judged.append(trial)
        progress(f"{trial.rule}, α {trial.alpha:g}: {trial.case.prompt}", len(judged) / total)
    rows = summaries(judged)
    if as_json:
        print_json(
            {
                "summary": rows,
                "references": [each._asdict() | {"case": each.case.prompt} for each in reference_rows],
                "trials": [trial_json(trial) for trial in judged],
            }
        )
    else:
        print(table(list(rows[0]), [list(row.values()) for row in rows]))
        for told, name in ((False, "the base"), (True, "the base with the context in front")):
            print(in_words(name, [each for each in reference_rows if each.told is told]))
        say(
            f"{len(facts)} facts; shares of prompts, ± standard deviation over facts of log p(new) − log p(old)"
        )


def summaries(judged: Sequence) -> list[dict]:
    """Means over facts for each rule and strength, with their spread; one row each."""
    import numpy as np

    from npt_viz.results.estimate import sd

    groups: dict[tuple[str, float], list] = {}
    for trial in judged:
        groups.setdefault((trial.rule, trial.alpha), []).append(trial)
    rows = []
    for (rule, alpha), group in groups.items():
        margins = [next(r.margin for r in t.card.prompts if r.part == "reliability") for t in group]
        row: dict = {"rule": rule, "alpha": alpha, "facts": len(group)}
        for part in ("reliability", "generalisation", "locality", "portability"):
            shares = [score.value for t in group if (score := t.card.score(part)).n]
            row[part] = float(np.mean(shares)) if shares else float("nan")
            preferred = [t.card.score(part, preferred=True).value for t in group if t.card.score(part).n]
            if part != "locality":
                row[f"{part} preferred"] = float(np.mean(preferred)) if preferred else float("nan")
        row["margin"], row["margin sd"] = float(np.mean(margins)), sd(margins)
        row["recovered"] = float(np.median([t.recovered for t in group]))
        row["neutral KL"] = float(np.mean([t.card.neutral_kl for t in group]))
        row["perplexity ratio"] = float(np.mean([t.card.perplexity_ratio for t in group]))
        row["norm"] = float(np.mean([t.update_norm for t in group]))
        rows.append(row)
    return rows


def in_words(name: str, reference_rows: Sequence) -> str:
    """A reference as text for a terminal."""
    import numpy as np

    from npt_viz.results.estimate import sd
    from npt_viz.results.words import number

    margins = [each.margin for each in reference_rows]
    hits = sum(each.hit for each in reference_rows)
    return f"{name}: {hits} of {len(reference_rows)} right, margin {np.mean(margins):.3g} ± {number(sd(margins))} nats"


def trial_json(trial) -> dict:
    """One fact × rule × strength as plain values."""
    card = trial.card
    return {
        "prompt": trial.case.prompt,
        "new": trial.case.new,
        "rule": trial.rule,
        "alpha": trial.alpha,
        "update_norm": trial.update_norm,
        "recovered": trial.recovered,
        "scores": {
            part: {
                "value": card.score(part).value,
                "n": card.score(part).n,
                "interval": card.score(part).interval,
            }
            for part in card.parts
        },
        "harmonic": card.harmonic(),
        "harmonic_preferred": card.harmonic(preferred=True),
        "neutral_kl": card.neutral_kl,
        "perplexity_ratio": card.perplexity_ratio,
        "prompts": [row._asdict() for row in card.prompts],
    }


def _strengths(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list of numbers such as 1,3,10", param_hint="--alphas"
        ) from None
