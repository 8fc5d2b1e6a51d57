"""Permanent update and Transplant: what one change does to one prediction."""

import math
from collections.abc import Sequence

from npt_viz.results.editing import (
    AlphaSweep,
    EditReport,
    Leakage,
    Outcome,
    RealisedEdit,
    Recovery,
    Scorecard,
)
from npt_viz.results.inspection import Token
from npt_viz.results.sentences import NOTHING, Exact, Sentence, Strong, said, states
from npt_viz.results.transplant import Transplant
from npt_viz.results.words import counted, nats, number, percent, tenths


@states("update")
def update(
    sources: tuple[tuple[str, int], ...],
    layers: tuple[int, ...],
    alpha: float,
    pieces: tuple[Token, ...],
    before: Outcome,
    after: Outcome,
    recovery: Recovery | None = None,
    *,
    mode: str = "local",
    positions: str = "deployed",
) -> Sentence:
    """Effect of an update on the prediction at the end of a prompt.

    sources: glyph and position of the tokens whose modulation is written. mode, positions: of the run that they were
    taken from; the prediction itself is always one of the edited model as it is deployed.
    """
    named = [part for glyph, position in sources[:3] for part in (Exact(glyph), f" #{position}, ")]
    if named:
        named = [" of ", *named[:-1], named[-1].removesuffix(", ")]
    if len(sources) > 3:
        named.append(f" and {len(sources) - 3} more")
    where = f"layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"
    effect = said(
        "Writing the update", *named, f" into {where} at α = {alpha:g} moves the prediction after ",
        Exact(pieces[-1].glyph), " by KL ", Strong(nats(float(after.kl[-1]))), " nats; ",
        *_next_token(before, after), f" (one prediction, {counted(len(pieces), 'token')} of prompt, run for real, "
        f"positions as deployed; ΔW from a {mode} run, positions as {positions}).",
    )  # fmt: skip
    return effect + (NOTHING if recovery is None else _recovered(recovery))


def _recovered(recovery: Recovery) -> Sentence:
    return said(
        "Without its context the edited model recovers ",
        Strong(percent(recovery.recovered)),
        " of what the context does to this prediction.",
    )


@states("strengths")
def strengths(sweep: AlphaSweep) -> Sentence:
    """Between which strengths an update does what it should and nothing else, and what that means."""
    n, usable = len(sweep.alphas), int(sweep.is_usable.sum())
    if sweep.new[1] == sweep.old[1]:
        return said(
            f"Which of {counted(n, 'strength')} is usable cannot be told: what should follow and what should not begin with the same "
            "token, ", Exact(sweep.new[0]), " (only the first token of each counts; run for real, positions as deployed).",
        )  # fmt: skip
    window = sweep.window
    found = (
        (f"None of {counted(n, 'strength')} that were tried is usable",)
        if window is None
        else (
            "Usable: ",
            Strong(f"α = {window[0]:.3g} to {window[1]:.3g}"),
            f" ({usable} of {n} that were tried are)",
        )
    )
    n_others = sweep.n_unrelated
    others = f", {counted(n_others, 'unrelated prompt')} move{'s' * (n_others == 1)} by at most {sweep.kl_limit:g} nats on average,"
    return said(
        *found, ". Usable means that ", Exact(sweep.new[0]), " is more probable than ", Exact(sweep.old[0]),
        f"{others if n_others else ' (no unrelated prompt is given, so none is judged)'} and perplexity "
        f"grows by at most {percent(sweep.perplexity_limit - 1)} on {counted(sweep.n_neutral_tokens, 'token')} of neutral text "
        "(run for real, positions as deployed).",
    )  # fmt: skip


@states("scorecard")
def scorecard(card: Scorecard) -> Sentence:
    """Whether the fact is written, with every part's share, and what the edit costs on ordinary text."""
    asked = next(row for row in card.prompts if row.part == "reliability")
    start = (
        ("The edited model says ", Exact(asked.expected), " after the prompt")
        if asked.hit
        else (
            "The edited model does not say ",
            Exact(asked.expected),
            " after the prompt, but ",
            Exact(asked.predicted),
        )
    )
    scores = {part: card.score(part) for part in card.parts}
    shares = ", ".join(
        f"{part} {score.hits:g} of {score.n} [{percent(score.interval[0])}, {percent(score.interval[1])}]"
        for part, score in scores.items()
    )
    return said(
        *start, f": {shares}; perplexity {_change(card.before_perplexity, card.after_perplexity)}, mean KL "
        f"{nats(card.neutral_kl)} nats, on {counted(card.n_neutral_tokens, 'token')} of neutral text (run for real, positions as "
        "deployed; 95 % intervals).",
    )  # fmt: skip


def _change(before: float, after: float) -> str:
    """rises from 20.1 to 20.4; as the numbers are shown, so that nothing rises from 20.1 to 20.1"""
    if number(before) == number(after):
        return f"stays {number(before)}"
    return f"{'rises' if after > before else 'falls'} from {number(before)} to {number(after)}"


@states("leakage")
def leakage(leaks: Sequence[Leakage], *, mode: str = "local", positions: str = "deployed") -> Sentence:
    """How much an update of one weight does to other tokens, under each key, and which key leaks least.

    leaks: of one parameter, one a key. mode, positions: of the run that the update was taken from.
    """
    rows = [f"{number(each.rms)} with the key {each.rule.replace('_', ' ')}" for each in leaks]
    ordered = sorted(leaks, key=lambda each: each.rms)
    least = ""
    if len(ordered) > 1 and number(ordered[0].rms) != number(ordered[1].rms):
        least = f"; {ordered[0].rule.replace('_', ' ')} leaks least"
    return said(
        "On other tokens an update of ", Exact(leaks[0].parameter), f" has this part of its effect at the source (rms): {', '.join(rows)}"
        f"{least} ({len(leaks[0].effect):,} tokens of reference text, sinks left out; {mode}, positions as {positions}).",
    )  # fmt: skip


@states("realised")
def realised(report: EditReport) -> Sentence:
    """How much of the requested ΔW is left in each dtype, in the weight that keeps least of it."""
    by_dtype: dict[str, list[RealisedEdit]] = {}
    for edit in report.edits:
        by_dtype.setdefault(edit.dtype, []).append(edit)
    n = len({edit.parameter for edit in report.edits})
    which = "the weight" if n == 1 else f"the worst of {n} weights"
    kept = "; ".join(f"{dtype} {_kept(edits)}" for dtype, edits in by_dtype.items())
    return said(f"Of the requested ΔW {which} keeps, by the dtype in which it is stored: {kept}.")


def _kept(edits: Sequence[RealisedEdit]) -> str:
    if not all(edit.finite for edit in edits):
        return "no finite weight"
    worst = min(edits, key=lambda edit: -math.inf if math.isnan(edit.cosine) else edit.cosine)
    if worst.requested_norm == 0:
        return "nothing, as nothing is asked for"
    if worst.realised_norm == 0:
        return "nothing, as no entry changes"
    return f"a cosine of {worst.cosine:.3f}, with {tenths(worst.changed)} of the entries changed"


@states("transplant")
def transplant(result: Transplant) -> Sentence:
    """Effect of a transplanted ΔW on the prediction at the end of the receiving prompt."""
    receiver = (Exact(result.pieces[result.token].glyph), f" #{result.token}")
    donor = (Exact(result.donor_pieces[result.donor_token].glyph), f" #{result.donor_token}")
    what = ("Its own ΔW, scaled,",) if result.operation == "scale" else ("The ΔW of ", *donor)
    where = f"layer{'s' * (len(result.layers) > 1)} {', '.join(map(str, result.layers))}"
    return said(
        *what, " at ", *receiver, f" in {where} moves the receiving prompt's prediction by KL ",
        Strong(nats(float(result.transplanted.kl[-1]))), " nats at its end; ",
        *_next_token(result.npt, result.transplanted),
        f" (one prediction, {counted(len(result.pieces), 'token')} of prompt, donor {result.mode}, positions as "
        f"{result.positions}).",
    )  # fmt: skip


def _next_token(before: Outcome, after: Outcome) -> tuple[str, ...]:
    old, new = before.next_tokens[0], after.next_tokens[0]
    if old[1] == new[1]:
        return ("the most probable next token stays ", Exact(new[0]), f" ({old[2]:.2f} → {new[2]:.2f})")
    return (
        "the most probable next token changes from ", Exact(old[0]), " to ", Exact(new[0]), f" ({new[2]:.2f})",
    )  # fmt: skip
