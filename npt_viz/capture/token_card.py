"""The pinned token: which gate units its modulation moves and which next tokens that speaks for."""

import torch

from npt_viz.capture.inspection import adapters_of
from npt_viz.capture.layer_trace import BASE, lane_of, layer_run
from npt_viz.capture.running import Lane, Pass, forward_pass
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import display_token
from npt_viz.results.inspection import Inspection
from npt_viz.results.token_card import LogitChange, TokenCard, Unit
from npt_viz.shapes import Float, Tensor


@torch.no_grad()
def token_card(
    model: BaseModel,
    checkpoint: Checkpoint,
    run: Inspection,
    layer: int,
    token: int,
    *,
    top: int = 10,
    kept_pass: Pass | None = None,
) -> TokenCard:
    """One token of an inspected prompt in one of its NPT layers.

    kept_pass: what `inspect` kept; without it the prompt runs again, up to that token.
    """
    if layer not in run.layers:
        raise NptVizError(f"layer {layer} was not inspected; choose among {', '.join(map(str, run.layers))}")
    if not -len(run.pieces) <= token < len(run.pieces):
        raise NptVizError(
            f"token {token} does not exist: the prompt has {len(run.pieces)} tokens, counted from 0"
        )
    token %= len(run.pieces)
    lane, this = lane_of(run.mode), slice(token, token + 1)
    adapters = adapters_of(checkpoint, list(run.layers))
    with model.lock:
        if kept_pass is None:
            # Attention is causal: what comes after the token cannot change it, unless a layer pools over the text.
            pools = any(adapter.is_pooled for adapter in adapters.values())
            ids = torch.tensor([run.token_ids if pools else run.token_ids[: token + 1]])
            lanes: list[Lane] = [{}] if lane == BASE else [{}, adapters]
            kept_pass = forward_pass(model, ids, lanes, record=[layer], positions=run.positions)
        _, plain, modulated, _ = layer_run(model, adapters[layer], kept_pass.layers[layer], lane, this)
        added = (modulated.output - plain.output)[0].float()
        logits = logit_change(model, added, kept_pass.stream[BASE, token].float())
    inspected = run.layers[layer]
    before, after = plain.gate[0].float(), modulated.gate[0].float()
    delta = after - before
    moved = delta.abs().topk(min(top, len(delta))).indices.tolist()
    return TokenCard(
        layer=layer,
        token=token,
        scalars={target: s[token] for target, s in inspected.scalars.items()},
        update_norms={target: float(n[token]) for target, n in inspected.update_norms.items()},
        units=tuple(Unit(index=i, before=before[i].item(), after=after[i].item()) for i in moved),
        n_units=len(delta),
        effective_units=(delta.square().sum() ** 2 / delta.pow(4).sum()).item(),
        promoted=strongest(model, logits, top, largest=True),
        suppressed=strongest(model, logits, top, largest=False),
        output_change_norm=added.norm().item(),
        linearised_at="the base model's final residual stream at this token",
    )


def logit_change(
    model: BaseModel, added: Float[Tensor, "model"], stream: Float[Tensor, "model"]
) -> Float[Tensor, "vocab"]:
    """First-order change of the logits when `added` joins the residual stream `stream` before the final norm.

    The exact derivative of unembedding(norm(x)) at x = stream in the direction `added`.
    """
    norm, unembedding = model.final_norm, model.unembedding
    home = next(norm.parameters())
    with torch.enable_grad():
        x = stream.detach().to(home).requires_grad_(True)
        normed = norm(x)
        # A derivative along a direction is the derivative of the vector-Jacobian product, which is linear.
        weights = torch.zeros_like(normed, requires_grad=True)
        (pulled_back,) = torch.autograd.grad(normed, x, weights, create_graph=True)
        (along,) = torch.autograd.grad(pulled_back, weights, added.to(home))
    return (unembedding(along) - unembedding(torch.zeros_like(along))).float()


def strongest(model, logits, top, *, largest):
    extreme = logits.topk(top, largest=largest)
    return tuple(
        LogitChange(glyph=display_token(model.tokenizer, i).glyph, id=i, change=change)
        for i, change in zip(extreme.indices.tolist(), extreme.values.tolist(), strict=True)
    )
