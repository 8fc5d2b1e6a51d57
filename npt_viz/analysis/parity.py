"""Parity checks on the open model: NPT off = base, factored = dense ΔW, cached = uncached."""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from npt_viz.adapter import Additive, LayerAdapter, LowRank, LowRankTanh, Modulation
from npt_viz.capture.inspection import adapters_of
from npt_viz.capture.layer_trace import mlp_input_of
from npt_viz.capture.running import Lane, changed, forward_pass
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel, LayerParts, greedy, weight_of
from npt_viz.model.tokens import encode
from npt_viz.results.parity import Check, Parity
from npt_viz.shapes import Float, Int

PROMPT = "The capital of France is Paris, and the capital of Italy is"

# An adapter is float32 whatever the base is.
ROUNDING = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""Largest relative difference of two orders of the same sums through one layer."""

MARGIN = 8
"""Two computations of the same logits may differ by this many times what one rounding step in the embeddings does.

Measured on SmolLM2-135M with random adapters of three strengths, float32 and bfloat16: cached and uncached logits
differ by 0.1 to 3.5 times that. A fixed tolerance would be wrong: a strong adapter multiplies rounding a thousandfold.
"""


@torch.no_grad()
def parity(
    model: BaseModel,
    checkpoint: Checkpoint,
    prompt: str | Sequence[int] = PROMPT,
    *,
    layers: Sequence[int] | None = None,
    token: int = -1,
    n_written_out: int = 4,
    steps: int = 8,
) -> Parity:
    """NPT off = base, adapter run = dense ΔW run, cached = uncached.

    layers: NPT layers that run together; all of the checkpoint's by default.
    token: where ΔW is written out as a whole matrix, for that one token, in the first `n_written_out` layers.
    steps: length of the greedy continuation that is made with a cache and checked without.

    Holds the model's lock. Raises NptVizError for a prompt, layer or token that does not exist.
    """
    encoded = encode(model, prompt)
    token_ids = torch.tensor([encoded.ids])
    n_tokens = token_ids.shape[1]
    if not -n_tokens <= token < n_tokens:
        raise NptVizError(
            f"token {token} does not exist: the prompt has {n_tokens} tokens; choose one of these"
        )
    lane = adapters_of(checkpoint, layers)
    written_out = tuple(lane)[:n_written_out]
    with model.lock:
        checks = (
            *_off_is_base(model, lane, token_ids),
            *(_factored_is_dense(model, lane, layer, token_ids, token) for layer in written_out),
            # A layer that pools over the whole text has no continuation token by token.
            *(
                ()
                if any(a.is_pooled for a in lane.values())
                else _cached_is_uncached(model, lane, token_ids, steps)
            ),
        )
    return Parity(
        model=model.name,
        checkpoint=checkpoint.name,
        prompt=prompt if isinstance(prompt, str) else "".join(piece.glyph for piece in encoded.pieces),
        n_tokens=n_tokens,
        token=token % n_tokens,
        layers=tuple(lane),
        written_out=written_out,
        dtype=str(model.dtype).removeprefix("torch."),
        checks=checks,
    )


def _off_is_base(model: BaseModel, lane: Lane, token_ids: Int[Tensor, "1 token"]) -> Iterator[Check]:
    hooks, base = _hooks(model.hf), model.hf(input_ids=token_ids.to(model.device)).logits
    beside = forward_pass(model, token_ids, [{}, lane]).final[:1]
    hooks_left, after = _hooks(model.hf) - hooks, model.hf(input_ids=token_ids.to(model.device)).logits
    alone = _logits(model, forward_pass(model, token_ids).final)
    yield Check(
        name="NPT off = base",
        measured=float((after - base).abs().max()),
        tolerance=0.0,
        unit="logits",
        meaning="largest change of any logit of the base model after an NPT run; the same bits give 0",
    )
    yield Check(
        name="no hook is left",
        measured=float(hooks_left),
        tolerance=0.0,
        unit="hooks",
        meaning="forward hooks in the base model after an NPT run that were not there before",
    )
    yield Check(
        name="base lane = base",
        measured=_logit_difference(_logits(model, beside), alone),
        tolerance=_rounding(model, {}, token_ids, alone),
        unit="relative",
        meaning="logits of the unchanged lane that runs in one batch with the NPT lane, against the base model alone",
    )


def _factored_is_dense(
    model: BaseModel,
    lane: Mapping[int, LayerAdapter],
    layer: int,
    token_ids: Int[Tensor, "1 token"],
    token: int,
) -> Check:
    adapter, parts = lane[layer], model.parts(layer)
    record = forward_pass(model, token_ids, [lane], record=[layer]).layers[layer]
    hidden, attention = record.hidden[0, token], record.attention[0, token]
    mlp_input = mlp_input_of(parts, hidden, attention, adapter.attention)
    dense = dense_mlp(parts, adapter.of_text(record.attention[0]), attention, mlp_input)
    return Check(
        name=f"adapter = dense ΔW, layer {layer}",
        measured=_difference(record.mlp_output[0, token], dense),
        tolerance=ROUNDING[model.dtype],
        unit="relative",
        meaning="MLP output of one token in the factored run, against the MLP with that token's ΔW in its weights",
    )


def dense_mlp(
    parts: LayerParts,
    adapter: LayerAdapter,
    attention: Float[Tensor, "model"],
    mlp_input: Float[Tensor, "model"],
) -> Float[Tensor, "model"]:
    """The MLP of one token with its ΔW written into the weights, float32: (d_ffn, d_model) matrices, for checks only.

    Computed where the adapter's weights are.
    """
    home = adapter.home
    attention = attention.to(home)

    def projected(target: str, projection: nn.Linear, x: Tensor) -> Tensor:
        weight, added = weight_of(projection).to(home), x.new_zeros(projection.out_features)
        if target in adapter.targets:
            weight, added = _edited(adapter.modulation(target), weight, attention)
        return F.linear(x, weight, None if projection.bias is None else projection.bias.to(home)) + added

    mlp_input = mlp_input.to(home)
    gate, up = projected("gate", parts.gate, mlp_input), projected("up", parts.up, mlp_input)
    return projected("down", parts.down, F.silu(gate) * up)


def _edited(
    modulation: Modulation, weight: Float[Tensor, "out inp"], attention: Float[Tensor, "model"]
) -> tuple[Float[Tensor, "out inp"], Float[Tensor, "out"]]:
    """(W', added bias) of one token, from the formulas and not from the factored code."""
    if isinstance(modulation, LowRank):
        if isinstance(modulation, LowRankTanh):
            strength = modulation.scale * torch.tanh(attention @ modulation.A)
        else:
            strength = modulation.strength(attention)
        return weight + (modulation.A @ torch.diag(strength) @ modulation.B).T, weight.new_zeros(len(weight))
    if isinstance(modulation, Additive):
        bottleneck = attention @ modulation.W_down
        bias = weight.new_zeros(len(weight))
        if modulation.W_add is not None:
            bias = modulation.scale * (bottleneck @ modulation.W_add)
        if modulation.W_mult is None:
            return weight, bias
        x = bottleneck @ modulation.W_mult
        factors: dict[str | None, Tensor] = {
            "one_plus_sigmoid": 1 + torch.sigmoid(x),
            "one_plus_tanh": 1 + torch.tanh(x),
            "half_sigmoid": (1 + torch.sigmoid(x)) / 2,
        }
        return factors[modulation.factor][:, None] * weight, bias
    for W_down, W_a_up, W_b_up in zip(modulation.W_down, modulation.W_a_up, modulation.W_b_up, strict=True):
        v_a, v_b = attention @ W_down @ W_a_up, attention @ W_down @ W_b_up
        weight = weight + modulation.scale * torch.outer(v_b, v_a)
    return weight, weight.new_zeros(len(weight))


def _cached_is_uncached(
    model: BaseModel, lane: Lane, token_ids: Int[Tensor, "1 token"], steps: int
) -> Iterator[Check]:
    with changed(model, [lane]):
        token_ids, chosen, cached = _greedy_with_cache(model, token_ids, steps)
    uncached = _logits(model, forward_pass(model, token_ids, [lane]).final[:, -steps:])
    shortfall = uncached.max(dim=-1).values - uncached.gather(1, chosen[:, None])[:, 0]
    # Two tokens closer than the rounding of both their logits are a draw, not a disagreement.
    disagree = shortfall > 2 * (cached - uncached).abs().max(dim=-1).values
    yield Check(
        name="cached = uncached, logits",
        measured=_logit_difference(cached, uncached),
        tolerance=_rounding(model, lane, token_ids, uncached),
        unit="relative",
        meaning=f"logits of a greedy continuation of {steps} tokens made with the key-value cache, against one pass "
        "over the finished text without it",
    )
    yield Check(
        name="cached = uncached, tokens",
        measured=float(disagree.sum()),
        tolerance=0.0,
        unit="tokens",
        meaning=f"of those {steps} tokens, the ones that the pass without a cache would not have chosen",
    )


def _greedy_with_cache(
    model: BaseModel, token_ids: Int[Tensor, "1 token"], steps: int
) -> tuple[Int[Tensor, "1 longer"], Int[Tensor, "step"], Float[Tensor, "step vocab"]]:
    """(everything the model has read, the token chosen at every step, the logits it was chosen from)."""
    logits: list[Tensor] = []

    def recorded(last: Tensor) -> Tensor:
        logits.append(last[0])
        return greedy(last)

    chosen = model.decode(token_ids, steps, recorded).to(model.device)
    read = torch.cat([token_ids.to(model.device), chosen[:, :-1]], dim=1)
    return read, chosen[0], torch.stack(logits)


def _rounding(
    model: BaseModel, lane: Lane, token_ids: Int[Tensor, "1 token"], logits: Float[Tensor, "last vocab"]
) -> float:
    """How far apart rounding may drive two computations of a lane's last `logits`: see MARGIN."""
    generator, step = torch.Generator().manual_seed(0), torch.finfo(model.dtype).eps

    def nudge(module, args, output):
        factor = 1 + step * torch.randn(output.shape, generator=generator)
        return (output.float() * factor.to(output.device)).to(output.dtype)

    moved = []
    for _ in range(2):
        handle = model.hf.get_input_embeddings().register_forward_hook(nudge)
        try:
            nudged = forward_pass(model, token_ids, [lane]).final[:, -len(logits) :]
        finally:
            handle.remove()
        moved.append(_logit_difference(_logits(model, nudged), logits))
    return max(ROUNDING[model.dtype], MARGIN * sum(moved) / len(moved))


def _logits(model: BaseModel, final: Float[Tensor, "1 token model"]) -> Float[Tensor, "token vocab"]:
    return model.unembedding(final)[0].float()


def _logit_difference(logits: Float[Tensor, "token vocab"], expected: Float[Tensor, "token vocab"]) -> float:
    """Mean over tokens of ‖logits − expected‖ / ‖expected − its mean‖."""
    spread = expected - expected.mean(dim=-1, keepdim=True)
    return float(((logits - expected).norm(dim=-1) / spread.norm(dim=-1)).mean())


def _difference(output: Tensor, expected: Tensor) -> float:
    """‖output − expected‖ / ‖expected‖"""
    output, expected = output.float(), expected.float().to(output.device)
    return float((output - expected).norm() / expected.norm())


def _hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
