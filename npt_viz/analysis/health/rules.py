"""The rules on what was measured: from evidence to findings, pure, each threshold with its reason.

A comparison with NaN is false, so a rule is silent where its number does not exist. The measured values behind the
thresholds are those of the specimens in docs/health.md and of the demo checkpoints.
"""

from collections.abc import Callable, Iterator

from npt_viz.analysis.health.evidence import Evidence, LayerEvidence, Predicted
from npt_viz.analysis.health.load_rules import of_file, of_weights
from npt_viz.results.directions import Verdict
from npt_viz.results.downstream import named
from npt_viz.results.health import Finding
from npt_viz.results.reconstruction import fits_without_rope, percent

NOTHING = 1e-6
"""A change below this share of the MLP's output is rounding in float32: nothing is added."""

WORTH = 0.1
"""A share recovered that is worth a rule's word; halves of a text differ by less than that on the demo checkpoints."""

OFF_BY = 2.0
"""A size is wrong where this factor, or its inverse, is better. The demo checkpoints are best within a factor of 1.4."""

MIN_OPPOSITE = 0.1
"""Share of tokens that must have a partner with opposite attention before parity can hurt. SmolLM2-135M, layers 10 to
25: below 0.02, because one direction that does not change its sign holds most of attention's energy."""

OPPOSITE = 0.3
"""Two changes are opposite below minus this mean cosine; tokens that get changes so much more alike than they need are
not told apart. Specimens: an even adapter 0.5 too alike, an odd one 0.1."""

OTHER_FITS = 0.25
"""Share recovered of the other target from which on an adapter can be said to fit it."""

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

MEMORISED = 0.2
"""A fit that recovers this much more of its own text than of held-out text has too little text to estimate a floor."""


def findings(evidence: Evidence) -> Iterator[Finding]:
    """Findings of all rules, unordered."""
    yield from of_file(evidence.load)
    for report in evidence.load.layers:
        yield from of_weights(report)
    for layer in evidence.layers:
        for rule in LAYER_RULES:
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
            meaning=f"The modulation changes the MLP's output at no token ({zero} tensors are zero everywhere): this "
            "layer runs as if its attention had been dropped.",
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
            # The first number is the one that is held against the threshold.
            worst = min(collapsed.values(), key=lambda verdict: next(iter(verdict.evidence.values())))
            yield rule(measured, " and ".join(collapsed), worst)


def _vanishing(measured: LayerEvidence, targets: str, verdict: Verdict) -> Finding:
    size = next(iter(verdict.evidence.values()))
    return Finding(
        rule="vanishing",
        severity="error" if measured.recovered < WORTH else "warning",
        layer=measured.layer,
        evidence={"relative_size": size, "threshold": verdict.threshold, "recovered": measured.recovered},
        meaning=f"The modulation of {targets} moves it by {size:.1e} of its size, which bfloat16 rounds away.",
        action="Check modulation_scale; lower weight decay and norm penalties; start W_b_up at zero and W_down from "
        "the top singular vectors of a.",
    )


def _scalar_constant(measured: LayerEvidence, targets: str, verdict: Verdict) -> Finding:
    variation = verdict.evidence["sd / |mean|"]
    return Finding(
        rule="scalar_constant",
        severity="info" if measured.recovered >= GOOD_LOCAL else "warning",
        layer=measured.layer,
        evidence={
            "sd_over_mean": variation,
            "mean": verdict.evidence["mean"],
            "threshold": verdict.threshold,
            "recovered": measured.recovered,
        },
        meaning=f"The scalar of {targets} is the same at every token within {variation:.1%}: what the token's own z "
        "says no longer matters, and the layer adds v_b(a), a change of bias and not of weight.",
        action="If the layer recovers what you need, leave it: a constant scalar is no limit at a token. Otherwise "
        "drop losses that pull v_a towards one vector, and see the ablation 'mean scalar' on Reconstruction.",
    )


def _direction_collapsed(measured: LayerEvidence, targets: str, verdict: Verdict) -> Finding:
    return Finding(
        rule="direction_collapsed",
        severity="warning",
        layer=measured.layer,
        evidence={
            "diversity": verdict.evidence["diversity"],
            "effective_rank": verdict.evidence["effective rank"],
            "effective_rank_redrawn": verdict.evidence["redrawn adapter"],
            "threshold": verdict.threshold,
            "recovered": measured.recovered,
        },
        meaning=f"What is added to {targets} points the same way at every token: it carries no information about "
        "what attention said there.",
        action="Lower norm and consistency penalties; train on relative error per token; check that W_down has more "
        "than one direction.",
    )


_COLLAPSES: dict[str, Callable[[LayerEvidence, str, Verdict], Finding]] = {
    "size": _vanishing,
    "scalar": _scalar_constant,
    "s·v_b": _direction_collapsed,
}


def worse_than_nothing(measured: LayerEvidence) -> Iterator[Finding]:
    """The median token is further from its target than without modulation."""
    if measured.recovered < -NOTHING:
        yield Finding(
            rule="worse_than_nothing",
            severity="error",
            layer=measured.layer,
            evidence={"recovered": measured.recovered, "tokens": float(measured.n_tokens)},
            meaning=f"The modulated MLP is further from {measured.reconstructs} than with its modulation off: its squared "
            f"error is {1 - measured.recovered:.2f} times as large (median).",
            action="Look at the other findings of this layer for the cause: size, objective, positions, base model.",
        )


def wrong_size(measured: LayerEvidence) -> Iterator[Finding]:
    """Multiplying what is added by a factor would recover clearly more."""
    if not measured.recovered_by_factor:
        return
    factor, best = max(measured.recovered_by_factor.items(), key=lambda item: item[1])
    is_off = factor >= OFF_BY or factor <= 1 / OFF_BY
    if is_off and best - measured.recovered >= WORTH and best >= WORTH:
        yield Finding(
            rule="wrong_size",
            severity="error" if measured.recovered < WORTH else "warning",
            layer=measured.layer,
            evidence={
                "best_factor": factor,
                "recovered": measured.recovered,
                "recovered_at_best_factor": best,
            },
            meaning=f"The modulation points the right way with the wrong size: {factor:g} times as much would recover "
            f"{percent(best)} instead of {percent(measured.recovered)}.",
            action=f"Check modulation_scale (multiply it by {factor:g}) and whether the weights are of another "
            "variant; otherwise train with the direct loss, which sees the size.",
        )


def parity(measured: LayerEvidence) -> Iterator[Finding]:
    """Rule: the adapter gives a and −a the same change where opposite ones are needed."""
    opposites = measured.opposites
    confused = opposites.needed < -OPPOSITE and opposites.given - opposites.needed > OPPOSITE
    if opposites.share >= MIN_OPPOSITE and confused and opposites.recovered < GOOD_LOCAL:
        yield Finding(
            rule="parity",
            severity="warning",
            layer=measured.layer,
            evidence={
                "tokens_with_an_opposite": opposites.share,
                "cosine_needed": opposites.needed,
                "cosine_given": opposites.given,
                "recovered_of_these": opposites.recovered,
            },
            meaning=f"{percent(opposites.share)} of the tokens have a partner with opposite attention. They need "
            f"opposite changes (mean cosine {opposites.needed:+.2f}) and do not get them ({opposites.given:+.2f}), and "
            f"recover {percent(opposites.recovered)}: an adapter without bias adds the same for a and −a.",
            action="Use a rule that is not even in a (T1, additive), or give the adapter a constant input beside a.",
        )


def objective_mismatch(measured: LayerEvidence) -> Iterator[Finding]:
    """It fits MLP(z_C) where a + MLP(z_C) is to be reconstructed, or the reverse."""
    recovered, other = measured.recovered, measured.recovered_other
    if other >= OTHER_FITS and other - recovered >= OTHER_FITS:
        withheld = measured.reconstructs == "a + MLP(z_C)"
        target = "MLP(z_C)" if withheld else "a + MLP(z_C)"
        reading = "beside (N2, N3)" if withheld else "withheld (N1, N4)"
        yield Finding(
            rule="objective_mismatch",
            severity="error",
            layer=measured.layer,
            evidence={"recovered": recovered, "recovered_of_other_target": other},
            meaning=f"Read as it is, the layer has to reconstruct {measured.reconstructs} and recovers {percent(recovered)}; "
            f"of {target} it recovers {percent(other)}: it was trained for that.",
            action=f"Read it with attention {reading}: Home, or --semantics; otherwise train on {measured.reconstructs}.",
        )


def trained_without_rope(measured: LayerEvidence) -> Iterator[Finding]:
    """It fits attention without RoPE far better than attention as it is deployed."""
    recovered, without = measured.recovered, measured.recovered_without_rope
    if fits_without_rope(recovered, without):
        yield Finding(
            rule="trained_without_rope",
            severity="error",
            layer=measured.layer,
            evidence={
                "recovered": recovered,
                "recovered_without_rope": without,
                "ratio_of_what_is_left": (1 - without) / (1 - recovered),
            },
            meaning=f"With real positions the layer recovers {percent(recovered)}, with none {percent(without)}: it was "
            "trained on attention without RoPE, which is not the attention that it replaces.",
            action="Train it on activations of the running model (positions deployed); judge it in no other.",
        )


def sink_dominates(measured: LayerEvidence) -> Iterator[Finding]:
    """Rule: attention sinks dominate the mean over tokens, which differs from the typical token."""
    sinks = measured.sinks
    flattered = 1 - measured.recovered >= FLATTERED * (1 - sinks.pooled)
    left_behind = measured.recovered - sinks.pooled >= 2 * WORTH
    if sinks.weight >= DOMINATES and (flattered or left_behind):
        yield Finding(
            rule="sink_dominates",
            severity="warning",
            layer=measured.layer,
            evidence={
                "share_of_mean_squared_error": sinks.weight,
                "recovered_pooled": sinks.pooled,
                "recovered_sinks": sinks.recovered,
                "recovered": measured.recovered,
            },
            meaning=f"Attention sinks make up {percent(sinks.weight)} of a mean squared error over all tokens, which "
            f"says {percent(sinks.pooled)} are recovered; the typical token has {percent(measured.recovered)}"
            + (
                ": the sinks were trained at the others' expense."
                if flattered
                else ": the sinks were left behind."
            ),
            action="Train on the error of each token relative to its own size (the corrected direct loss), on every "
            "position; report sinks separately.",
        )


def rank_floor(measured: LayerEvidence) -> Iterator[Finding]:
    """Held against a fresh fit of the same shape, where one was asked for."""
    floor = measured.floor
    if floor is None or floor.recovered_train - floor.recovered > MEMORISED:
        return
    recovered, fit = floor.adapter_recovered, floor.recovered
    evidence = {"recovered": recovered, "recovered_by_a_fit": fit, "steps": float(floor.steps)}
    if recovered >= fit - FLOOR_MARGIN and floor.allows < NEARLY_ALL:
        yield Finding(
            rule="rank_floor",
            severity="info",
            layer=measured.layer,
            evidence=evidence,
            meaning=f"A fresh fit of the same shape ({floor.shape}) recovers {percent(fit)} of held-out text, this "
            f"layer {percent(recovered)}: it is as good as its shape allows, and more training cannot help.",
            action="Modulate more targets before you raise the rank: gate+up recovers about twice what the gate does.",
        )
    elif fit - recovered >= WORTH:
        yield Finding(
            rule="undertrained",
            severity="warning",
            layer=measured.layer,
            evidence=evidence,
            meaning=f"A fit of {floor.steps} steps of the same shape ({floor.shape}) recovers {percent(fit)} of "
            f"held-out text, this layer {percent(recovered)}.",
            action="Train longer, with the direct loss and W_down started from the top singular vectors of a.",
        )


LAYER_RULES: tuple[Callable[[LayerEvidence], Iterator[Finding]], ...] = (
    nothing_loaded,
    collapses,
    worse_than_nothing,
    wrong_size,
    parity,
    objective_mismatch,
    trained_without_rope,
    sink_dominates,
    rank_floor,
)


def broken_downstream(evidence: Evidence, predicted: Predicted) -> Iterator[Finding]:
    """Every layer fits, and the model predicts no better than with no modulation at all."""
    local = min((evidence.of(layer).recovered for layer in predicted.layers), default=float("nan"))
    typical = predicted.median_kl >= predicted.median_kl_off > 0
    on_average = predicted.mean_kl >= predicted.mean_kl_off > 0
    if local >= GOOD_LOCAL and (typical or on_average):
        alone = len(predicted.layers) == 1
        yield Finding(
            rule="broken_downstream",
            severity="error",
            layer=predicted.layers[0] if alone else None,
            evidence={"recovered": local, **_numbers(predicted)},
            meaning=f"{named(predicted.layers).capitalize()} recover{'s' * alone} {percent(local)} or more of attention "
            f"locally, but run for real the prediction is no better than with no modulation: KL "
            f"{predicted.median_kl:.2g} against {predicted.median_kl_off:.2g} nats (median), "
            f"{predicted.mean_kl:.2g} against {predicted.mean_kl_off:.2g} (mean).",
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
