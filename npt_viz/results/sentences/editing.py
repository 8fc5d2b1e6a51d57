"""Permanent update and Transplant: what one change does to one prediction."""

from npt_viz.results.editing import AlphaSweep, Outcome, Recovery
from npt_viz.results.inspection import Token
from npt_viz.results.sentences import NOTHING, Exact, Sentence, Strong, said, states
from npt_viz.results.transplant import Transplant
from npt_viz.results.words import counted, number, percent


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
        Exact(pieces[-1].glyph), " by KL ", Strong(number(float(after.kl[-1]))), " nats; ",
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
    return said(
        *found, ". Usable means that ", Exact(sweep.new[0]), " is more probable than ", Exact(sweep.old[0]),
        f", {counted(sweep.n_unrelated, 'unrelated prompt')} move by at most {sweep.kl_limit:g} nats on average, and perplexity "
        f"grows by at most {percent(sweep.perplexity_limit - 1)} on {counted(sweep.n_neutral_tokens, 'token')} of neutral text "
        "(run for real, positions as deployed).",
    )  # fmt: skip


@states("transplant")
def transplant(result: Transplant) -> Sentence:
    """Effect of a transplanted ΔW on the prediction at the end of the receiving prompt."""
    receiver = (Exact(result.pieces[result.token].glyph), f" #{result.token}")
    donor = (Exact(result.donor_pieces[result.donor_token].glyph), f" #{result.donor_token}")
    what = ("Its own ΔW, scaled,",) if result.operation == "scale" else ("The ΔW of ", *donor)
    where = f"layer{'s' * (len(result.layers) > 1)} {', '.join(map(str, result.layers))}"
    return said(
        *what, " at ", *receiver, f" in {where} moves the receiving prompt's prediction by KL ",
        Strong(number(float(result.transplanted.kl[-1]))), " nats at its end; ",
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
