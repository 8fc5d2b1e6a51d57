"""The rules on what was measured: from evidence to findings, pure, each threshold with its reason.

A comparison with NaN is false, so a rule is silent where its number does not exist. The measured values behind the
thresholds are those of the specimens in docs/health.md and of the demo checkpoints.
"""

from collections.abc import Callable, Iterator

from npt_viz.analysis.health.evidence import Evidence, LayerEvidence, Predicted
from npt_viz.analysis.health.load_rules import of_file, of_weights
from npt_viz.results.better import NO_SHARE, Kind
from npt_viz.results.directions import Verdict
from npt_viz.results.downstream import named
from npt_viz.results.health import Finding, Severity
from npt_viz.results.probe import Alternative, interval
from npt_viz.results.sentences.probe import probe as in_words
from npt_viz.results.words import counted, percent

NOTHING = 1e-6
"""A change below this share of the MLP's output is rounding in float32: nothing is added."""

HARMLESS = 0.05
"""A layer that fits nothing does harm where its interval ends below minus this share; else it just recovers nothing."""

WORTH = 0.1
"""A share recovered that is worth a rule's word; halves of a text differ by less than that on the demo checkpoints."""

MIN_OPPOSITE = 0.1
"""Share of tokens that must have a partner with opposite attention before parity can hurt. SmolLM2-135M, layers 10 to
25: below 0.02, because one direction that does not change its sign holds most of attention's energy."""

OPPOSITE = 0.3
"""Two changes are opposite below minus this mean cosine; tokens that get changes so much more alike than they need are
not told apart. Specimens: an even adapter 0.5 too alike, an odd one 0.1."""

GOOD_LOCAL = 0.3
"""Share recovered, local, above which the local error counts as good; the weakest healthy demo checkpoint has 0.42."""

DOMINATES = 0.5
"""Share of a mean squared error above which the few sinks weigh more than all other tokens together."""

FLATTERED = 3.0
"""A mean that says this many times less is left than at the typical token flatters. Specimens with a sink: trained on
plain squared error 5, on relative error 0.4."""

FLOOR_MARGIN = 0.02
"""Two fits of the same shape that differ in their seed differ by less than this in the share recovered."""

NEARLY_ALL = 0.9
"""Share recovered above which a layer has no floor to speak of."""


def findings(evidence: Evidence) -> Iterator[Finding]:
    """Findings of all rules, unordered."""
    yield from of_file(evidence.load)
    for report in evidence.load.layers:
        yield from of_weights(report)
    is_foreign = evidence.load.base_match.status == "mismatch"
    for layer in evidence.layers:
        for rule in LAYER_RULES:
            if rule is fits_something_else and is_foreign and not _fits_well(layer):
                continue  # Of another base's weights some way recovers a little by chance; it is not the cause.
            yield from rule(layer)
    for predicted in evidence.predicted:
        yield from broken_downstream(evidence, predicted)


def nothing_loaded(measured: LayerEvidence) -> Iterator[Finding]:
    """Rule: the modulation is zero at every token."""
    if measured.largest_change < NOTHING:
        zero = len(measured.report.zero_tensors)
        yield Finding(
            rule="nothing_loaded",
            severity="error",
            layer=measured.layer,
            evidence={"largest_change": measured.largest_change, "zero_tensors": float(zero)},
            meaning=f"The modulation changes the MLP's output at none of {measured.tokens} ({counted(zero, 'tensor')} of "
            "zeros alone; local, positions as deployed): this layer runs as if its attention had been dropped.",
            action="Look for W_b_up that is still zero: the weights were not loaded, not trained, or not saved.",
        )


def collapses(measured: LayerEvidence) -> Iterator[Finding]:
    """Size, scalar and direction, as the Directions page judges them; one finding for all targets."""
    if measured.largest_change < NOTHING:
        return  # Nothing cannot vary.
    for name, rule in _COLLAPSES.items():
        collapsed = {
            target: verdict
            for target, verdicts in measured.verdicts.items()
            for verdict in verdicts
            if verdict.name == name and verdict.collapsed
        }
        if collapsed:
            # The first number is the one that is held against the threshold; the largest is true of every target.
            mildest = max(collapsed.values(), key=lambda verdict: next(iter(verdict.evidence.values())))
            yield rule(measured, " and ".join(collapsed), mildest)


def _vanishing(measured: LayerEvidence, targets: str, verdict: Verdict) -> Finding:
    size = next(iter(verdict.evidence.values()))
    return Finding(
        rule="vanishing",
        severity="error" if measured.recovered.high < WORTH else "warning",
        layer=measured.layer,
        evidence={"relative_size": size, "threshold": verdict.threshold, **measured.numbers},
        meaning=f"The modulation of {targets} moves {'each by at most' if ' and ' in targets else 'it by'} {size:.1e} of its "
        f"size (median of {measured.where}), which bfloat16 rounds away.",
        action="Check modulation_scale; lower weight decay and norm penalties; start W_b_up at zero and W_down from "
        "the top singular vectors of a.",
    )


def _scalar_constant(measured: LayerEvidence, targets: str, verdict: Verdict) -> Finding:
    variation = verdict.evidence["sd / |mean|"]
    return Finding(
        rule="scalar_constant",
        severity="info" if measured.recovered.low >= GOOD_LOCAL else "warning",
        layer=measured.layer,
        evidence={
            "sd_over_mean": variation,
            "mean": verdict.evidence["mean"],
            "threshold": verdict.threshold,
            **measured.numbers,
        },
        meaning=f"The scalar of {targets} is the same at every token within {variation:.1%} ({measured.where}): what the "
        "token's own z says no longer matters, and the layer adds v_b(a), a change of bias and not of weight.",
        action="If the layer recovers what you need, leave it: a constant scalar is no limit at a token. Otherwise "
        "drop losses that pull v_a towards one vector, and see the ablation 'mean scalar' on Reconstruction.",
    )


def _direction_collapsed(measured: LayerEvidence, targets: str, verdict: Verdict) -> Finding:
    return Finding(
        rule="direction_collapsed",
        severity="warning",
        layer=measured.layer,
        evidence={
            **{name.replace(" ", "_"): value for name, value in verdict.evidence.items()},
            "threshold": verdict.threshold,
            **measured.numbers,
        },
        meaning=f"What is added to {targets} lies along one direction at every token, one way or the other, and "
        + (
            f"the layer recovers {interval(measured.recovered)} (median of {measured.where})."
            if measured.recovered.n
            else f"the layer has nothing to recover ({measured.where})."
        ),
        action="Lower norm and consistency penalties; train on relative error per token; check that W_down has more "
        "than one direction.",
    )


_COLLAPSES: dict[str, Callable[[LayerEvidence, str, Verdict], Finding]] = {
    "size": _vanishing,
    "scalar": _scalar_constant,
    "s·v_b": _direction_collapsed,
}


def fits_something_else(measured: LayerEvidence) -> Iterator[Finding]:
    """The adapter fits clearly better turned, sized, exchanged, elsewhere, without RoPE or read otherwise."""
    found = measured.probe
    if found.verdict == "something else":
        best = found.fits[0]
        rule, severity, action = _CAUSES[best.kind](measured, best)
        yield Finding(
            rule=rule,
            severity=severity,
            layer=measured.layer,
            evidence={
                **measured.numbers,
                "recovered_otherwise": best.recovered.value,
                "recovered_otherwise_low": best.recovered.low,
                "recovered_otherwise_high": best.recovered.high,
                **({"value": float(best.value)} if isinstance(best.value, int | float) else {}),
            },
            meaning=str(in_words(found)),
            action=action,
        )
    elif found.verdict == "undecided" and found.fits:
        yield Finding(
            rule="ambiguous",
            severity="error" if measured.recovered.high < WORTH else "warning",
            layer=measured.layer,
            evidence={**measured.numbers, "recovered_otherwise": found.fits[0].recovered.value},
            meaning=str(in_words(found)),
            action="Try each on Home or with more text (--text); until one is clearly better, change nothing.",
        )


def _fits_well(measured: LayerEvidence) -> bool:
    """Whether something else fits so well that the weights must have been made for this base."""
    return any(each.recovered.low >= GOOD_LOCAL for each in measured.probe.fits)


def _sign(measured: LayerEvidence, best: Alternative) -> tuple[str, Severity, str]:
    return (
        "sign_flipped",
        "error",
        "Look for a minus that was lost or added where the weights were saved, merged or converted: turn the sign of "
        f"W_b_up{'' if best.target is None else f' of {best.target}'} (or of W_a_up, not of both).",
    )


def _size(measured: LayerEvidence, best: Alternative) -> tuple[str, Severity, str]:
    return (
        "wrong_size",
        "error" if measured.recovered.high < WORTH else "warning",
        (
            f"Check modulation_scale (multiply it by {best.value:.3g}) and whether the weights are of another variant; "
            if best.target is None
            else f"Check how W_b_up of {best.target} was saved (multiply it by {best.value:.3g}); "
        )
        + "otherwise train with the direct loss, which sees the size.",
    )


def _swapped(measured: LayerEvidence, best: Alternative) -> tuple[str, Severity, str]:
    return (
        "swapped",
        "error",
        "Compare the names in the file with those of docs/formats.md: two tensors of equal shape were exchanged when it "
        "was saved or converted.",
    )


def _layer(measured: LayerEvidence, best: Alternative) -> tuple[str, Severity, str]:
    return (
        "wrong_layer",
        "error",
        f"Look for a layer number that is off where the file was saved or merged: these weights belong to layer {best.value}.",
    )


def _positions(measured: LayerEvidence, best: Alternative) -> tuple[str, Severity, str]:
    return (
        "trained_without_rope",
        "error",
        "Attention without RoPE is not the attention that it replaces: train it on activations of the running model "
        "(positions deployed); judge it in no other.",
    )


def _reading(measured: LayerEvidence, best: Alternative) -> tuple[str, Severity, str]:
    return (
        "objective_mismatch",
        "error",
        f"Choose {best.value} on Home or with --semantics, or let semantics probe do it; if the run was meant to be "
        f"read as it stands, it trained on another target: train on {measured.reconstructs}.",
    )


_CAUSES: dict[Kind, Callable[[LayerEvidence, Alternative], tuple[str, Severity, str]]] = {
    "sign": _sign,
    "size": _size,
    "swapped": _swapped,
    "layer": _layer,
    "positions": _positions,
    "reading": _reading,
}


def fits_nothing(measured: LayerEvidence) -> Iterator[Finding]:
    """Nothing that was tried recovers anything: further from the target than no modulation, or no nearer."""
    found, recovered = measured.probe, measured.recovered
    unexplained = found.verdict == "nothing" or (found.verdict == "undecided" and not found.fits)
    if not unexplained or recovered.high >= NO_SHARE or measured.largest_change < NOTHING:
        return
    worse = measured.recovered.high < -HARMLESS
    yield Finding(
        rule="worse_than_nothing" if worse else "recovers_nothing",
        severity="error",
        layer=measured.layer,
        evidence=measured.numbers,
        meaning=str(in_words(found))
        + (
            f" Its squared error is {1 - measured.recovered.value:.2f} times that of no modulation (median)."
            if worse
            else ""
        ),
        action="Weights of another base model, weights whose rows are out of order and weights of another run look "
        "like this: check which base the run used and how the file was written; otherwise it was not trained.",
    )


def parity(measured: LayerEvidence) -> Iterator[Finding]:
    """Rule: the adapter gives a and −a the same change where opposite ones are needed, and nothing else explains it."""
    if measured.probe.verdict == "something else":
        return
    opposites = measured.opposites
    confused = opposites.needed < -OPPOSITE and opposites.given - opposites.needed > OPPOSITE
    if opposites.share >= MIN_OPPOSITE and confused and opposites.recovered.high < GOOD_LOCAL:
        yield Finding(
            rule="parity",
            severity="warning",
            layer=measured.layer,
            evidence={
                "tokens_with_an_opposite": float(opposites.n),
                "share_with_an_opposite": opposites.share,
                "cosine_needed": opposites.needed,
                "cosine_given": opposites.given,
                "recovered_of_these": opposites.recovered.value,
            },
            meaning=f"{percent(opposites.share)} of {opposites.of:,} tokens have a partner with opposite attention. They need "
            f"opposite changes (mean cosine {opposites.needed:+.2f}) and do not get them ({opposites.given:+.2f}), and "
            f"recover {interval(opposites.recovered)} ({measured.where}): an adapter without bias adds the same for a and −a.",
            action="Use a rule that is not even in a (T1, additive), or give the adapter a constant input beside a.",
        )


def sink_dominates(measured: LayerEvidence) -> Iterator[Finding]:
    """Rule: attention sinks dominate the mean over tokens, which differs from the typical token."""
    sinks, typical = measured.sinks, measured.recovered
    flattered = 1 - typical.high >= FLATTERED * (1 - sinks.pooled)
    left_behind = typical.low - sinks.pooled >= 2 * WORTH
    if sinks.weight >= DOMINATES and (flattered or left_behind):
        yield Finding(
            rule="sink_dominates",
            severity="warning",
            layer=measured.layer,
            evidence={
                "sinks": float(sinks.n),
                "share_of_mean_squared_error": sinks.weight,
                "recovered_pooled": sinks.pooled,
                "recovered_sinks": sinks.recovered,
                **measured.numbers,
            },
            meaning=f"{counted(sinks.n, 'attention sink')} make{'s' * (sinks.n == 1)} up {percent(sinks.weight)} of a mean squared "
            f"error over all of {measured.tokens}, which says {percent(sinks.pooled)} are recovered; the typical token has "
            f"{interval(typical)} (median of {measured.where})"
            + (
                ": the sinks were trained at the others' expense."
                if flattered
                else ": the sinks were left behind."
            ),
            action="Train on the error of each token relative to its own size (the corrected direct loss), on every "
            "position; report sinks separately.",
        )


def rank_floor(measured: LayerEvidence) -> Iterator[Finding]:
    """Held against a fresh fit of the same shape, where one was asked for and is any good."""
    floor = measured.floor
    if floor is None or floor.problem:
        return
    recovered, fit = floor.adapter_recovered, floor.recovered
    evidence = {"recovered": recovered, "recovered_by_a_fit": fit, "steps": float(floor.steps)}
    text = f"of {floor.n_heldout:,} held-out tokens, sinks left out; local, positions as {floor.positions}"
    if abs(recovered - fit) <= FLOOR_MARGIN and floor.allows < NEARLY_ALL:
        yield Finding(
            rule="rank_floor",
            severity="info",
            layer=measured.layer,
            evidence=evidence,
            meaning=f"A fresh fit of {floor.steps} steps of the same shape ({floor.shape}) recovers {percent(fit)}, this "
            f"layer {percent(recovered)} ({text}){floor.seen_note}: more of the same training is unlikely to help.",
            action="Modulate more targets before you raise the rank: gate+up recovers about twice what the gate does.",
        )
    elif fit - recovered >= WORTH:
        yield Finding(
            rule="undertrained",
            severity="warning",
            layer=measured.layer,
            evidence=evidence,
            meaning=f"A fresh fit of {floor.steps} steps of the same shape ({floor.shape}) recovers {percent(fit)}, this "
            f"layer {percent(recovered)} ({text}){floor.seen_note}.",
            action="Train longer, with the default losses and W_down started from the top singular vectors of a.",
        )


LAYER_RULES: tuple[Callable[[LayerEvidence], Iterator[Finding]], ...] = (
    nothing_loaded,
    collapses,
    fits_something_else,
    fits_nothing,
    parity,
    sink_dominates,
    rank_floor,
)


def broken_downstream(evidence: Evidence, predicted: Predicted) -> Iterator[Finding]:
    """Every layer fits, and the model predicts no better than with no modulation at all."""
    weakest = min((evidence.of(layer) for layer in predicted.layers), key=lambda each: each.recovered.low)
    local = weakest.recovered.low
    typical = predicted.median_kl >= predicted.median_kl_off > 0
    on_average = predicted.mean_kl >= predicted.mean_kl_off > 0
    if local >= GOOD_LOCAL and (typical or on_average):
        alone = len(predicted.layers) == 1
        yield Finding(
            rule="broken_downstream",
            severity="error",
            layer=predicted.layers[0] if alone else None,
            evidence={**weakest.numbers, **_numbers(predicted)},
            meaning=f"{named(predicted.layers).capitalize()} recover{'s' * alone} {percent(local)} or more of attention "
            f"locally ({weakest.probe.setting}), but run for real the prediction is no better than with no modulation: KL "
            f"{predicted.median_kl:.2g} against {predicted.median_kl_off:.2g} nats (median), "
            f"{predicted.mean_kl:.2g} against {predicted.mean_kl_off:.2g} (mean, over {weakest.tokens}, positions as deployed).",
            action="See Downstream on Reconstruction for the position where it breaks"
            + (
                ", the sinks first; add the KL loss."
                if alone
                else " and the layer from which on; train layers in order on the stream that the NPT layers below "
                "make."
            ),
        )


def _numbers(predicted: Predicted) -> dict[str, float]:
    return {name: value for name, value in predicted._asdict().items() if name != "layers"}
