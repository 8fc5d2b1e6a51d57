"""Registry of the losses, for the command line, the page and the trainer.

A new loss is one function of tensors and one line in TERMS (docs/how-to/add-a-loss.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from npt_viz.adapter import Additive, Semantics
from npt_viz.shapes import Float, Tensor
from npt_viz.training.losses import logits, output, vectors
from npt_viz.training.student import Student

Form = Literal["corrected", "as_written"]
Loss = Callable[[Student], Float[Tensor, ""]]


@dataclass(frozen=True, kw_only=True)
class Term:
    """One loss that can be switched on."""

    formula: str
    """Of the corrected form, as a person reads it."""
    sentence: str
    """What it is for; where there are two forms, what differs."""
    corrected: Loss
    """The form that runs by default."""
    as_written: Loss | None = None
    """The published formula, literally, where it differs from `corrected`."""
    weight: float = 1.0
    """A sensible weight beside direct=1: a tenth of the published composite's where that has one."""
    needs: Literal["local", "logits"] = "local"
    """local: the layer alone. logits: the layers above it run too, on whole sequences."""
    reads: Literal["output", "vectors", "v_a of the stream"] = "output"
    """What an adapter must have for it. output: nothing. vectors: v_a and v_b. v_a of the stream: a v_a where h and a
    live, which the down target has not."""
    supervises: tuple[Form, ...] = ()
    """Forms that fall as the output nears its target: a bad held-out share beside them is a divergence."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """Rule -> what the loss is there, where that differs from `formula`."""

    def unfit(self, semantics: Semantics, targets: Sequence[str]) -> str | None:
        """Reason why an adapter cannot have this loss, with the way out; None where it can."""
        if self.reads == "output":
            return None
        if not has_vectors(semantics):
            return (
                "an additive adapter has no v_a and v_b, which this loss looks at: it changes the gate's bias and "
                "factor; switch the loss off, or train a variant with vectors (N1–N5, S2, T1)"
            )
        if self.reads == "v_a of the stream" and tuple(targets) == ("down",):
            return (
                "this loss compares v_a with the residual stream, and v_a of the down target lives in d_ffn; "
                "switch the loss off or add the gate or up target"
            )
        return None

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("corrected",) if self.as_written is None else ("corrected", "as_written")

    def __call__(self, student: Student, form: Form = "corrected") -> Float[Tensor, ""]:
        if form == "as_written" and self.as_written is not None:
            return self.as_written(student)
        return self.corrected(student)


def has_vectors(semantics: Semantics) -> bool:
    """Whether the modulation is made of vectors v_a and v_b; those of S0 and S1 are not."""
    return semantics.rule in ("rank_one_sum", "low_rank_tanh", "low_rank_pooled")


_TANH = "v_a,i = c_i A_i and v_b,i = B_i, the mean over the r components"
_TANH_V_A = "v_a,i = c_i A_i, the mean over the r components"
_CHANGE = "mean Σ δ², δ the change of the gate's pre-activation: there is no ΔW"

TERMS: dict[str, Term] = {
    "direct": Term(
        supervises=("corrected", "as_written"),
        formula="mean ‖ŷ − target‖² / ‖MLP(z) − target‖²",
        sentence="Supervises what the modulated MLP writes. As written it is MSE / RMS(target), which grows with "
        "the size of the target and follows a few outlier tokens; corrected, every token counts the same.",
        corrected=lambda s: output.direct(s.output, s.target, s.baseline),
        as_written=lambda s: output.direct_as_written(s.output, s.target),
    ),
    "direct_robust": Term(
        supervises=("corrected",),
        formula="mean log(1 + ‖ŷ − target‖² / ‖MLP(z) − target‖²)",
        sentence="The direct loss for layers with attention sinks: a token on which the modulation is far worse than "
        "none pulls less, where it would drown all others in `direct`.",
        corrected=lambda s: output.direct_robust(s.output, s.target, s.baseline),
    ),
    "attention_encoding": Term(
        reads="v_a of the stream",
        meanings={"low_rank_tanh": _TANH_V_A},
        formula="MSE(v_a, a) / RMS(a) + 0.5 (1 − cos(v_a, a))",
        sentence="Pulls v_a towards the attention output. It fixes a gauge, not a function: other v_a do the same.",
        corrected=lambda s: _mean(vectors.attention_encoding(v_a, s.attention) for v_a in s.v_a_of_stream),
        weight=0.5,
    ),
    "fidelity": Term(
        formula="MSE(logits of NPT, logits of base)",
        sentence="Compares the final logits. Dominated by the mean logit, which changes no prediction: see kl.",
        corrected=lambda s: logits.fidelity(
            s.ending.final, s.ending.final_base, s.ending.gram, s.ending.vocab
        ),
        weight=0.1,
        needs="logits",
    ),
    "kl": Term(
        formula="mean KL(base ‖ NPT), nats",
        sentence="Compares the next-token distributions, which is what a reader of the model's text gets.",
        corrected=lambda s: logits.kl(
            s.ending.final, s.ending.final_base, s.ending.unembedding, s.ending.vocab
        ),
        needs="logits",
    ),
    "regularisation": Term(
        reads="vectors",
        meanings={"low_rank_tanh": _TANH},
        formula="mean v_a² + mean v_b²",
        sentence="Keeps v_a and v_b small. It depends on the gauge: see update_norm for ΔW itself.",
        corrected=lambda s: _mean(vectors.regularisation(*both) for both in s.vectors.values()),
        weight=0.001,
    ),
    "update_norm": Term(
        meanings={rule: _CHANGE for rule in ("additive", "multiplicative", "additive_multiplicative")},
        formula="mean ‖ΔW‖_F²",
        sentence="Keeps the weight change of a token small, whatever the gauge: ‖v_a‖²‖v_b‖² for one component.",
        corrected=lambda s: _mean(_update_size(s, t) for t in s.adapter.targets),
        weight=0.0001,
    ),
    "strength": Term(
        meanings={rule: "MSE(δ, W a)" for rule in ("additive", "multiplicative", "additive_multiplicative")},
        formula="MSE(s·v_b, W a)",
        sentence="Asks the change of a projection to be the projection of the attention output. "
        "It ignores the norm layer between them: the exact change is W (z_C − z).",
        corrected=lambda s: _mean(
            vectors.strength(s.change(t), s.attention_through(t)) for t in s.adapter.targets
        ),
        weight=0.1,
    ),
    "guidance": Term(
        reads="v_a of the stream",
        meanings={"low_rank_tanh": "s_i = c_i (z·A_i), the mean over the r components"},
        formula="MSE(sigmoid(s), sigmoid(‖a‖/‖z‖)) + 0.1 max(0, 0.1 − Var(s))",
        sentence="Ties the scalar to the size of the attention output. As written it looks at v_a·h, which the layer "
        "does not use, and subtracts 0.1 Var(v_a·h), unbounded below; corrected, s = v_a·z and a hinge.",
        corrected=lambda s: _mean(vectors.guidance(v_a, s.mlp_input, s.attention) for v_a in s.v_a_of_stream),
        as_written=lambda s: _mean(
            vectors.guidance_as_written(v_a, s.hidden, s.attention) for v_a in s.v_a_of_stream
        ),
        weight=0.2,
    ),
    "bottleneck": Term(
        reads="v_a of the stream",
        meanings={"low_rank_tanh": _TANH_V_A},
        formula="0.01 |cos(v_a, h)| − |cos(v_a, a)|",
        sentence="Asks v_a to say much of the attention output and little of the stream; its best value is −1.",
        corrected=lambda s: _mean(vectors.bottleneck(v_a, s.hidden, s.attention) for v_a in s.v_a_of_stream),
        weight=0.05,
    ),
    "decomposed": Term(
        supervises=("corrected",),
        formula="0.5 E_∥ + 0.5 E_⊥, the error along a and across it, each relative to what is needed",
        sentence="Weighs the error along the attention output apart from the rest. As written its slice is the whole "
        "tensor: the second half is a constant without a gradient and the first asks ŷ to be a alone.",
        corrected=lambda s: output.decomposed(s.output, s.target, s.baseline, s.attention),
        as_written=lambda s: output.decomposed_as_written(s.output, s.attention, s.mlp_with_attention),
    ),
    "consistency": Term(
        reads="vectors",
        meanings={"low_rank_tanh": "v_b,i = B_i is the same at every token, so 1 − cos(B_i, W a) is left"},
        formula="MSE(v_b, mean v_b) + 1 − cos(v_b, W a)",
        sentence="Asks for the same v_b at every token, and for one along the projected attention output.",
        corrected=lambda s: _mean(
            vectors.consistency(v_b, s.attention_through(t)) for t, (_, v_b) in s.vectors.items()
        ),
        weight=0.1,
    ),
    "orthogonality": Term(
        reads="v_a of the stream",
        meanings={"low_rank_tanh": _TANH_V_A},
        formula="mean (v_a @ V)², V the 10 leading directions of h, not centred",
        sentence="Keeps v_a out of the directions that all hidden states share. As written it multiplies with V.T, "
        "a shape error, so it cannot run; corrected, v_a @ V with V from the whole training text.",
        corrected=lambda s: _mean(vectors.orthogonality(v_a, s.principal) for v_a in s.v_a_of_stream),
        as_written=lambda s: _mean(
            vectors.orthogonality_as_written(v_a, s.hidden) for v_a in s.v_a_of_stream
        ),
        weight=0.01,
    ),
}
"""Name on the command line and the page -> term. Losses on vectors are averaged over the targets they apply to."""


def _update_size(s: Student, target) -> Float[Tensor, ""]:
    if isinstance(s.adapter.modulation(target), Additive):
        return vectors.change_norm(s.change(target))
    return vectors.update_norm(*s.vectors[target])


def _mean(values) -> Float[Tensor, ""]:
    return torch.stack(list(values)).mean()
