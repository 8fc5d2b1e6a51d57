"""Glossary: what every number and word of the app means, its formula, what is good, and where that is written.

The numbers of a token are METRICS of results/inspection.py; the rules of health are RULES of results/health.py.
"""

from typing import NamedTuple

from npt_viz.results.attribution import MAX_DELTA
from npt_viz.results.health import RULES
from npt_viz.results.inspection import METRICS, TOKEN_METRICS, Metric


class Entry(NamedTuple):
    """One term."""

    meaning: str
    formula: str = ""
    """Formula, or unit."""
    good: str = ""
    """What to expect of a healthy layer, or what to compare with."""
    source: str = ""
    """File and section that says so."""

    @property
    def explained(self) -> str:
        """All of it in plain text, to stand over a header."""
        parts = (
            f"{self.meaning[:1].upper()}{self.meaning[1:]}.",
            f"{self.formula}." if self.formula else "",
            f"Good: {self.good}." if self.good else "",
            f"({self.source})" if self.source else "",
        )
        return " ".join(filter(None, parts))


_MATHS = "docs/mathematics.md"


def _of(metric: Metric) -> Entry:
    return Entry(metric.meaning, metric.unit, metric.good, metric.source)


GLOSSARY: dict[str, dict[str, Entry]] = {
    "Tokens": {metric.label: _of(metric) for metric in (METRICS | TOKEN_METRICS).values()},
    "Layers and text": {
        "median share, [low, high]": Entry(
            "median over tokens, attention sinks left out, with its 95 % interval over the tokens of this text, not over all texts",
            "order statistics",
            "an interval that leaves out what you compare with; a wide one asks for more text",
            "docs/health.md",
        ),
        "what a fresh fit reaches": Entry(
            "share that a fresh adapter of the same shape reaches after 400 steps: what the shape allows, about",
            "",
            "a layer within 0.02 of it is as good as its shape allows; 0.1 below it is undertrained",
            "docs/health.md rank_floor, undertrained",
        ),
        "exact patch": Entry(
            "the update that replaces attention exactly at one token; no adapter contains it, because it depends on h as well",
            "v_a = z/‖z‖², v_b = W_g (z_C − z), W_u (z_C − z), down a",
            "error 1e-13 of the output in float64",
            f"{_MATHS} §5",
        ),
        "gate oracle": Entry(
            "the smallest move of the gate that makes the MLP write its target at one token",
            "W_d (u ⊙ σ) = target, δ = silu⁻¹(σ) − W_g z",
            "relative error 3e-5 on SmolLM2-135M: the gate alone is enough for one token",
            f"{_MATHS} §6",
        ),
        "perplexity": Entry(
            "how many tokens the model hesitates between; base, NPT model, and the same with the modulation off",
            "exp(mean NLL)",
            "near the base's: demo checkpoints 42 to 44 beside 41.5, with attention dropped 46 to 58",
            f"{_MATHS} §9, checkpoints/README.md",
        ),
        "top-1 agreement": Entry(
            "share of tokens at which base and NPT model expect the same next token",
            "mean of argmax Q = argmax P",
            "demo checkpoints 0.85 to 0.92, with attention dropped 0.65 to 0.81",
            f"{_MATHS} §9, checkpoints/README.md",
        ),
        "attention sink": Entry(
            "token whose residual norm dwarfs the others', usually the first one; left out of medians, not of training",
            "‖h_t‖ > 10 · median ‖h‖",
            "one a sequence is ordinary",
            f"{_MATHS} §8",
        ),
    },
    "Directions": {
        "effective rank": Entry(
            "how many directions a set of vectors uses",
            "exp(−Σ π ln π), π = σ / Σσ",
            "at least half of that of the same adapter with redrawn weights; below, it counts as collapsed where that costs something",
            f"{_MATHS} §13",
        ),
        "participation ratio": Entry(
            "the same with less weight on small directions; also how many gate units share a change",
            "(Σσ²)² / Σσ⁴",
            "compare with the effective rank; n for n equal values, 1 for one",
            f"{_MATHS} §13",
        ),
        "cos(s·v_b, exact change)": Entry(
            "whether what is added points where the exact change does",
            "cosine",
            "clearly above the same adapter with the attention of other tokens",
            f"{_MATHS} §13",
        ),
        "cos(ΔW_t, ΔW_t')": Entry(
            "how alike the updates of two tokens are",
            "⟨ΔW_t, ΔW_t'⟩ / (‖ΔW_t‖ ‖ΔW_t'‖)",
            "below 1: with 1 everywhere all tokens receive one update",
            f"{_MATHS} §4, §13",
        ),
        "sd / |mean| of the scalar": Entry(
            "whether the scalar differs from token to token",
            "standard deviation over tokens / |mean|",
            "above 0.0078, one bfloat16 step",
            "docs/health.md scalar_constant",
        ),
        "share in q axes": Entry(
            "share of v_a in the q leading axes of what the layer reads",
            "Σ ‖v_b‖² ‖v_a V‖² / Σ ‖v_b‖² ‖v_a‖²",
            "random directions have q/d: for q = 10, d = 576 it is 1.7 % ± 0.8 %",
            f"{_MATHS} §13",
        ),
        "gauge": Entry(
            "many v_a, v_b are one update: a longer v_a with a shorter v_b changes nothing, so their norms are no verdict",
            "(c v_a, v_b / c)",
            "compare s·v_b, ‖ΔW‖ and cosines of ΔW",
            f"{_MATHS} §7",
        ),
        "parity of a": Entry(
            "an adapter without bias answers a and −a alike; it hurts only where such tokens are",
            "mod(−a) = mod(a)",
            "fewer than a tenth of the tokens have an opposite partner",
            f"{_MATHS} §7, docs/health.md parity",
        ),
    },
    "Attribution": {
        "feature ablation": Entry(
            "how much a number falls when one token is replaced by a stand-in; below 0 the token lowers the number",
            "f(prompt) − f(prompt without token t)",
            "no sum is promised: tokens that say the same share one effect",
            "npt_viz/analysis/attribution.py",
        ),
        "integrated gradients": Entry(
            "gradients along the straight way from the stand-in to the token, summed up",
            "(x − x₀) · ∫ ∇f(x₀ + α (x − x₀)) dα",
            "scores add up to f(prompt) − f(all replaced), as delta checks",
            "Sundararajan et al. 2017, Axiomatic Attribution for Deep Networks",
        ),
        "gradient × activation": Entry(
            "first-order effect of each token's embedding; quick, and wrong where the number is far from linear",
            "∇f(x) · x",
            "agrees with the other two in sign for the strongest tokens",
            "npt_viz/analysis/attribution.py",
        ),
        "delta": Entry(
            "by how much the scores miss the change that they should add up to",
            "|Σ scores − (value − all replaced)| / |value − all replaced|",
            f"below {MAX_DELTA:.0%}; above, take more steps",
            "npt_viz/results/attribution.py",
        ),
    },
    "Trainings": {
        "loss, weighted": Entry(
            "a term of what is minimised, times its weight; totals of runs with other weights are other sums",
            "w_i L_i, share |w_i L_i| / Σ |w_j L_j|",
            "direct falls below 1, which is no modulation; for others compare runs with the same weights",
            f"{_MATHS} §10",
        ),
        "share recovered, held-out": Entry(
            "median share recovered on sequences that the training does not see",
            "1 − ‖ŷ−target‖² / ‖MLP(z)−target‖²",
            "rises from 0; the alarm sounds below −0.02. Demo checkpoints end at 0.42 (gate) to 0.94 (gate, up, down)",
            f"{_MATHS} §3, §11, checkpoints/README.md",
        ),
        "sinks recovered": Entry(
            "share recovered at attention sinks alone; a large one can dominate a mean",
            "the same formula",
            "above 0: below it, deep stacks fail at the first token",
            "docs/health.md sink_dominates",
        ),
        "gradient of a loss": Entry(
            "how hard one term pulls, with respect to the adapter, before its weight; cosines tell which terms pull apart",
            "‖∇L_i‖, cos(∇L_i, ∇L_j)",
            "a cosine above −0.5, where the alarm sounds",
            f"{_MATHS} §10",
        ),
        "variance of the scalar": Entry(
            "spread of v_a·x over the tokens of a step",
            "Var_t(v_a·x)",
            "not 0: a constant scalar makes one update of all",
            "docs/health.md scalar_constant",
        ),
        "spread": Entry(
            "standard deviation over the seeds of an arm",
            "√(Σ (x − mean)² / (n − 1))",
            "small against the difference that you ask about; three seeds tell little",
            "docs/experiments/losses.md",
        ),
        "difference ±": Entry(
            "arm − reference, seed by seed, with the range that holds for all arms together at 95 %",
            "Student's t over the seeds, for as many comparisons as there are",
            "within chance where the range reaches over 0",
            "docs/experiments/losses.md",
        ),
    },
    "Edits": {
        "KL(before ‖ after)": Entry(
            "how far one prediction moves by an edit or a transplant",
            "Σ P ln(P / Q), nats",
            "large at the prompt you edit, at most 0.1 at unrelated ones",
            f"{_MATHS} §9, docs/editing.md",
        ),
        "recovered by an edit": Entry(
            "part of what a context does to a prediction that an edit does without the context",
            "1 − KL(with context ‖ edited) / KL(with context ‖ plain)",
            "1 is all of it, 0 nothing; below 0 the edit leads away",
            "docs/editing.md",
        ),
        "usable window": Entry(
            "strengths at which the new token beats the old one and little else moves",
            "p(new) > p(old), unrelated KL ≤ 0.1 nats, perplexity ≤ 1.05 of before",
            "there is one; a wide one is robust",
            "docs/editing.md",
        ),
        "score of an edit": Entry(
            "efficacy at the prompt, generality at paraphrases, locality at unrelated prompts; whiskers are Wilson's 95 %",
            "harmonic mean; 0 as soon as one part is 0",
            "near 1 in all three",
            "docs/editing.md",
        ),
        "leakage": Entry(
            "what a permanent update adds at other tokens, as a share of what it adds at its source",
            "v_a·x′ / v_a·x",
            "near 0; the whitened key has less of it than the shortest one",
            f"{_MATHS} §12",
        ),
        "strength": Entry(
            "what a permanent update is multiplied by",
            "W + α v_b v_aᵀ",
            "1 is the token's own update",
            f"{_MATHS} §12",
        ),
        "realised ΔW": Entry(
            "what is left of an update after rounding to the dtype of the weights",
            "cosine with what was asked for",
            "near 1; in bfloat16 0.72 for an update of a thousandth of ‖W‖, 0.26 for a ten-thousandth",
            f"{_MATHS} §12",
        ),
        "ledger": Entry(
            "the permanent updates that are applied now, in order; each can be undone",
            "",
            "",
            f"{_MATHS} §12",
        ),
    },
    "Scans": {
        "mean, ± over texts": Entry(
            "mean over all tokens but sinks, with half of its 95 % interval over texts: tokens of one text resemble each other",
            "Σ sums of texts / Σ tokens, Student's t",
            "an interval that leaves out what you compare with; none of fewer than eight texts",
            "docs/scan.md",
        ),
        "quantile of a scan": Entry(
            "value that this share of the tokens lies below, within 0.2 % of itself",
            "counts in logarithmic bins (DDSketch)",
            "",
            "docs/scan.md",
        ),
        "class of a token": Entry(
            "the first that fits: sink, special, broken bytes, white space, number, punctuation, word start, word continuation, other",
            "",
            "means that differ little between classes; a class far off is where the layer fails",
            "docs/scan.md",
        ),
    },
    "Comparisons": {
        "A, B, B − A": Entry(
            "two inspections: A is pinned or set on Compare, B is the head; their tokens are aligned by a diff, and only those of both are compared",
            "difflib on token ids",
            "",
            "docs/compare.md",
        ),
        "spread of the differences": Entry(
            "what a single difference is held against: a token stands out where B − A lies further than that from the median difference",
            "3 · 1.4826 · median |d − median d|",
            "normally distributed differences stand out at 0.3 % of the tokens; fewer than six tokens have no spread",
            "docs/compare.md",
        ),
        "deleted, inserted": Entry(
            "tokens that only A has (−), and that only B has (+); they have no difference",
            "",
            "",
            "docs/compare.md",
        ),
    },
    "History": {
        "entry": Entry(
            "one question with what the page said of it, its settings, and its numbers; asked again it is the same entry, with the time of now",
            "",
            "",
            "docs/workspace.md",
        ),
        "kept numbers": Entry(
            "the inspection as it was computed, every digit of it; it is shown from these, also where its checkpoint changed or is gone, and marked then",
            "",
            "no mark: the files are those of then, and the pages take the kept numbers over without computing",
            "docs/workspace.md",
        ),
    },
    "Words": {
        "local, propagated": Entry(
            "local feeds every NPT layer the base's own h and a, as in training; propagated runs the NPT model, so errors add up",
            "",
            "good local shares alone do not make a model that runs: look at KL or perplexity, too",
            f"{_MATHS} §3, §11",
        ),
        "deployed, trained": Entry(
            "deployed has RoPE and causal attention; trained has identity positions, as the public training code ran attention",
            "",
            "a layer that is much better as trained was trained without RoPE",
            f"{_MATHS} §11, docs/health.md trained_without_rope",
        ),
        "h, a, z, z_C": Entry(
            "residual stream that enters, attention output, and the MLP's input without and with attention",
            "z = mlp_norm(h), z_C = mlp_norm(h + a)",
            "",
            f"{_MATHS} §1",
        ),
        "v_a, v_b": Entry(
            "what an update reads and what it writes, made from a by the adapter",
            "ΔW = Σ_j v_b,j v_a,jᵀ",
            "",
            f"{_MATHS} §1",
        ),
        "ŷ, target": Entry(
            "what the modulated MLP writes, and what it has to write for the layer to equal the base's",
            "target = a + MLP(z_C) where attention is withheld",
            "",
            f"{_MATHS} §3",
        ),
        "N1 … T1": Entry(
            "variants: a rule of modulation, the targets, and the path of attention",
            "",
            "",
            "docs/variants.md",
        ),
        "parity checks": Entry(
            "identities that hold exactly: NPT switched off is the base; what differs has to be rounding",
            "",
            "every measured difference below the allowed one",
            "Home, Parity",
        ),
    },
    "Health": {
        name: Entry(
            rule.title, "", "", f"docs/health.md; shown on {rule.page.replace('_', ' ').capitalize()}"
        )
        for name, rule in RULES.items()
    },
}
"""Group -> term -> what it means."""

PAGES: dict[str, tuple[str, ...]] = {
    "npt_viz": (
        "share recovered",
        "KL(base ‖ NPT)",
        "median share, [low, high]",
        "parity checks",
        "attention sink",
    ),
    "Tokens": (
        "scalar v_a·z",
        "share recovered",
        "relative error",
        "KL(base ‖ NPT)",
        "attention sink",
        "gauge",
    ),
    "Reconstruction": (
        "share recovered",
        "median share, [low, high]",
        "relative error",
        "exact patch",
        "what a fresh fit reaches",
        "gate oracle",
        "KL(base ‖ NPT)",
        "perplexity",
        "deployed, trained",
    ),
    "Directions": (
        "effective rank",
        "participation ratio",
        "cos(s·v_b, exact change)",
        "cos(ΔW_t, ΔW_t')",
        "sd / |mean| of the scalar",
        "relative gate change",
        "gauge",
    ),
    "Orthogonality": ("share in q axes", "sd / |mean| of the scalar", "h, a, z, z_C", "gauge"),
    "Attribution": (
        "feature ablation",
        "integrated gradients",
        "gradient × activation",
        "delta",
        "scalar v_a·z",
    ),
    "Compare": (
        "A, B, B − A",
        "spread of the differences",
        "deleted, inserted",
        "median share, [low, high]",
        "attention sink",
    ),
    "Scan": (
        "share recovered",
        "KL(base ‖ NPT)",
        "mean, ± over texts",
        "quantile of a scan",
        "class of a token",
        "perplexity",
        "top-1 agreement",
        "attention sink",
    ),
    "History": ("entry", "kept numbers", "share recovered", "KL(base ‖ NPT)", "KL(before ‖ after)"),
    "Training": (
        "share recovered, held-out",
        "loss, weighted",
        "gradient of a loss",
        "variance of the scalar",
        "‖ΔW‖ of the gate",
    ),
    "Experiments": (
        "share recovered, held-out",
        "relative error",
        "KL(base ‖ NPT)",
        "perplexity",
        "top-1 agreement",
        "sinks recovered",
        "spread",
        "difference ±",
    ),
    "Runs": ("loss, weighted", "share recovered, held-out", "gradient of a loss", "variance of the scalar"),
    "Permanent update": (
        "KL(before ‖ after)",
        "recovered by an edit",
        "strength",
        "usable window",
        "score of an edit",
        "leakage",
        "realised ΔW",
        "ledger",
    ),
    "Transplant": ("KL(before ‖ after)", "strength", "scalar v_a·z", "local, propagated"),
}
"""Title of a page -> the terms of its numbers, those of the first screen first."""


def explained(term: str) -> str:
    """Text to stand over a term. Raises KeyError for one that the glossary does not have."""
    for entries in GLOSSARY.values():
        if term in entries:
            return entries[term].explained
    raise KeyError(term)
