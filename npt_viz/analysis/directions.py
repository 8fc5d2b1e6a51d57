"""Variation of v_a, v_b and ΔW over the tokens of a prompt: one layer, one target.

Everything is in factored form: vectors are coefficient rows times shared matrices (Updates), inner products of ΔW
come from r x r Gram matrices. The largest tensor is (token, out), the size of one activation.
"""

import numpy as np
import torch

from npt_viz.analysis.collapse import verdicts
from npt_viz.analysis.updates import Updates, updates_of
from npt_viz.arguments import checked
from npt_viz.capture.layer_view import LayerView, layer_views
from npt_viz.capture.running import Pass
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.results.directions import (
    Alignment,
    Baseline,
    ComponentShares,
    Directions,
    ExactAgreement,
    MovedUnits,
    PromptTokens,
    Unavailable,
)
from npt_viz.results.estimate import sd
from npt_viz.results.inspection import Inspection
from npt_viz.shapes import Float, Int, Tensor

MAX_TOKENS = 1024
"""Tokens that are compared with each other; a longer prompt is sampled, evenly spaced, and the result says so."""

MIN_TOKENS = 3
"""Two vectors always lie on one line."""

N_SHUFFLES = 16
"""Random draws of every baseline that has no closed form."""

N_UNITS = 12

EXACT = {"gate": "W_g (z_C − z)", "up": "W_u (z_C − z)", "down": "a"}
"""What the exact patch adds to each projection's output (docs/mathematics.md §5)."""


@checked
def directions(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    run: Inspection,
    layer: int,
    *,
    target: str | None = None,
    keep_sinks: bool = False,
    seed: int = 0,
    kept_pass: Pass | None = None,
) -> Directions:
    """Alignment, components, agreement with the exact patch, units and verdicts of one target of one layer.

    target: the layer's first one by default. keep_sinks: let attention sinks count.
    kept_pass: what `inspect` kept of the run; without it the prompt runs again.
    A part that this input does not have is an Unavailable with the reason.
    Raises NptVizError where there is no ΔW (additive rules), for fewer than MIN_TOKENS tokens, for NaN.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    view = layer_views(model, checkpoint, run, [layer], kept_pass=kept_pass)[layer]
    target, _ = view.weight_change(target)
    tokens, notes = compared_tokens(run, keep_sinks=keep_sinks)
    view = view.rows(tokens)
    updates = updates_of(view, target)
    return Directions(
        layer=layer,
        target=target,
        variant=view.adapter.variant,
        mode=run.mode,
        seed=seed,
        tokens=tokens,
        alignment=Unavailable.unless(lambda: alignment(view, target, tokens)),
        components=Unavailable.unless(lambda: component_shares(updates)),
        exact=Unavailable.unless(lambda: exact_agreement(view, target, tokens, seed=seed)),
        units=Unavailable.unless(lambda: moved_units(view, target, tokens)),
        verdicts=verdicts(view, target),
        notes=notes,
        prompt=prompt_tokens(run, keep_sinks),
    )


def prompt_tokens(run: Inspection, keep_sinks: bool) -> PromptTokens:
    """The tokens of a prompt, as a result of them carries them."""
    return PromptTokens(
        glyphs=run.tokens,
        mode=run.mode,
        positions=run.positions,
        is_sink=run.is_sink,
        keep_sinks=keep_sinks,
    )


def compared_tokens(run: Inspection, *, keep_sinks: bool = False) -> tuple[np.ndarray, tuple[str, ...]]:
    """(positions of the tokens that count, what a reader must know about the choice)."""
    kept = np.arange(len(run.pieces)) if keep_sinks else np.flatnonzero(~run.is_sink)
    if len(kept) < MIN_TOKENS:
        sinks = "" if keep_sinks or not run.is_sink.any() else " once attention sinks are left out"
        raise NptVizError(
            f"directions are compared between tokens and this prompt has {len(kept)}{sinks}; "
            f"give a prompt with at least {MIN_TOKENS} tokens that count"
        )
    if len(kept) <= MAX_TOKENS:
        return kept, ()
    sample = kept[np.linspace(0, len(kept) - 1, MAX_TOKENS).round().astype(int)]
    return sample, (f"Compared: {MAX_TOKENS} evenly spaced tokens of the {len(kept)} that count.",)


@torch.no_grad()
def alignment(view: LayerView, target: str, tokens: np.ndarray) -> Alignment:
    """cos(ΔW_t, ΔW_t') for every pair of tokens, from Gram matrices; ΔW is the sum over components."""
    _, modulation = view.weight_change(target)
    gram = modulation.update_gram(view.attention).cpu().double()
    size = gram.diagonal().clamp_min(0).sqrt()
    if not size.any():
        raise NptVizError(
            f"every ΔW of the {target} is zero: the adapter is at its initialisation; train it first"
        )
    cosines = (gram / size.where(size > 0, torch.nan).outer(size)).clamp(-1, 1)
    unit = torch.nn.functional.normalize(view.attention.cpu().double(), dim=-1)
    squares = _pairs(unit @ unit.T).square()
    inp, out = view.read_by(target).shape[1], view.exact[target].shape[1]
    return Alignment(
        tokens=tokens,
        cosines=cosines.float().numpy(),
        mean=_pairs(cosines).nanmean().item(),
        attention=Baseline(squares.mean().item(), squares.std().item(), 0),
        # cos is the product of two independent cosines of variances 1/inp and 1/out.
        random=Baseline(0.0, (inp * out) ** -0.5, 0),
    )


def component_shares(updates: Updates) -> ComponentShares:
    """Share of each component in the summed effect δ = Σ_j s_j v_b,j, and how alike the components are."""
    n, scalars = updates.n_components, updates.scalars
    if n < 2:
        raise NptVizError(
            "this target has one component, so there is nothing to share; see the map of its vectors"
        )
    effects = [updates.effects(j) for j in range(n)]
    products = torch.zeros(n, n, len(scalars), dtype=torch.float64)
    for i, one in enumerate(effects):
        for j, other in enumerate(effects[: i + 1]):
            overlap = ((one.left @ (one.right @ other.right.T)) * other.left).sum(-1).double().cpu()
            products[i, j] = products[j, i] = overlap
    total = products.sum((0, 1, 2))
    if total <= 0:
        raise NptVizError("every s·v_b is zero: the adapter is at its initialisation; train it first")
    norms = products.diagonal().T.clamp_min(0).sqrt()
    cosines = products / (norms[:, None] * norms[None, :]).where(
        norms[:, None] * norms[None, :] > 0, torch.nan
    )
    return ComponentShares(
        shares=(products.sum((1, 2)) / total).numpy(),
        cosines=cosines.nanmean(-1).numpy(),
        scalar_means=scalars.mean(0).cpu().numpy(),
        scalar_sds=scalars.std(0).cpu().numpy(),
        random_sd=updates.W_b.shape[2] ** -0.5,
    )


def exact_agreement(view: LayerView, target: str, tokens: np.ndarray, *, seed: int = 0) -> ExactAgreement:
    """cos(s·v_b, exact change) at every token, and the same with the ΔW of other tokens."""
    exact = view.exact[target]
    if not exact.any():
        raise NptVizError(
            f"layer {view.layer} keeps the base model's attention, so the exact change of the {target} is zero "
            "and there is no direction to compare with"
        )
    updates = updates_of(view, target)
    cosines, sizes = _cosines_with(updates, exact)
    generator = torch.Generator().manual_seed(seed)
    shuffled = []
    for _ in range(N_SHUFFLES):
        others = _other_tokens(len(tokens), generator).to(exact.device)
        shuffled.append(_cosines_with(updates.with_attention_of(others), exact)[0].nanmedian().item())
    return ExactAgreement(
        formula=EXACT[target],
        tokens=tokens,
        cosines=cosines.cpu().numpy(),
        ratios=(sizes / exact.norm(dim=-1)).cpu().numpy(),
        shuffled=Baseline(float(np.mean(shuffled)), sd(shuffled), N_SHUFFLES),
        random_sd=exact.shape[1] ** -0.5,
    )


def _other_tokens(n: int, generator: torch.Generator) -> Int[Tensor, "token"]:
    """Another token for each of n, drawn as one cycle through all: no token is given its own ΔW."""
    order = torch.randperm(n, generator=generator)
    others = torch.empty_like(order)
    others[order] = order.roll(1)
    return others


def moved_units(view: LayerView, target: str, tokens: np.ndarray, *, top: int = N_UNITS) -> MovedUnits:
    """The outputs of the projection with the largest Σ_t δ_t²; for gate and up these are units of the MLP."""
    added = updates_of(view, target).effects().vectors()
    energy = added.square().sum(0).double()
    if not energy.any():
        raise NptVizError(
            f"the modulation moves no unit of the {target}: it is at its initialisation; train it first"
        )
    units = energy.topk(min(top, len(energy))).indices
    own = view.plain_output(target)
    return MovedUnits(
        target=target,
        tokens=tokens,
        units=units.cpu().numpy(),
        changes=added[:, units].T.cpu().numpy(),
        own_sizes=own[:, units].square().mean(0).sqrt().cpu().numpy(),
        energy_shares=(energy[units] / energy.sum()).cpu().numpy(),
        n_units=len(energy),
        effective_units=(energy.sum().square() / energy.square().sum()).item(),
    )


def _cosines_with(
    updates: Updates, exact: Float[Tensor, "token out"]
) -> tuple[Float[Tensor, "token"], Float[Tensor, "token"]]:
    """(cos(s·v_b, exact), ‖s·v_b‖); NaN where either is zero."""
    effects = updates.effects()
    dots = (effects.left * (exact @ effects.right.T)).sum(-1)
    sizes = effects.norms().to(dots)
    both = sizes * exact.norm(dim=-1)
    return dots / both.where(both > 0, torch.nan), sizes


def _pairs(square: Float[Tensor, "token token"]) -> Float[Tensor, "pair"]:
    """The entries of different tokens, each pair once."""
    i, j = torch.triu_indices(*square.shape, offset=1)
    return square[i, j]
