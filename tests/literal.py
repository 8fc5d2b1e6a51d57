"""The slow, literal form of everything the core computes: every matrix of a token's MLP written out, in float64.

Written from the formulas, not from the code: variants are told apart by their name alone, and only the adapters'
tensors are read. Nothing here is fit for use; the tests hold the factored, batched, hooked core against it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from npt_viz.adapter import LayerAdapter
from npt_viz.model.base import BaseModel

DUAL_OR_MORE = ("N3", "N4", "N5")
ADDS_ATTENTION_BESIDE = ("N2", "N3")
SCALE = {"S2": 0.1, "S1-later": 0.1, "S1-later+residual": 0.1, "S1-add": 0.1, "S1-add+residual": 0.1}


def rank_one_update(weights, attention, scale=1.0):
    """ΔW (out, inp) of one token: scale * sum_j v_b,j v_a,j^T. attention: (model,)."""
    components, _, inp = weights.W_a_up.shape
    update = torch.zeros(weights.W_b_up.shape[2], inp, dtype=torch.float64)
    for j in range(components):
        v_a, v_b = vectors(weights, attention, j)
        update += scale * torch.outer(v_b, v_a)
    return update


def vectors(weights, attention, j):
    """(v_a,j, v_b,j) of one token, without the scale."""
    bottleneck = attention.double() @ weights.W_down[j].double()
    return bottleneck @ weights.W_a_up[j].double(), bottleneck @ weights.W_b_up[j].double()


def tanh_update(weights, attention, scale=1.0):
    """ΔW (out, inp) of one token: (A diag(c) B)^T with c = scale * tanh(a A)."""
    A, B = weights.A.double(), weights.B.double()
    strength = scale * torch.tanh(attention.double() @ A)
    return (A @ torch.diag(strength) @ B).T


def pooled_update(weights, attention):
    """ΔW (out, inp) of a whole text: B diag(A ā) A with ā the mean of a over its tokens. attention: (token, model)."""
    A, B = weights.A.double().T, weights.B.double().T
    tokens = torch.atleast_2d(attention.double())
    mean = sum(tokens) / len(tokens)
    return B @ torch.diag(A @ mean) @ A


def edited(variant, weight, modulation, attention):
    """(W', bias) of one token: what one projection of the MLP becomes. weight: (out, inp), attention: (model,).

    S0-pooled is given the attention of all tokens, (token, model).
    """
    scale = SCALE.get(variant, 1.0)
    if variant == "S0-pooled":
        return weight + pooled_update(modulation, attention), 0.0
    if variant == "T1":
        return weight + tanh_update(modulation, attention, scale), 0.0
    if variant[0] == "N" or variant == "S2":
        return weight + rank_one_update(modulation, attention, scale), 0.0
    bottleneck = attention.double() @ modulation.W_down.double()
    bias = 0.0
    if not variant.startswith("S1-mult"):
        bias = scale * (bottleneck @ modulation.W_add.double())
    if variant.startswith("S0") or variant.startswith("S1-add"):
        return weight, bias
    x = bottleneck @ modulation.W_mult.double()
    factor = {
        "design": 1 + 1 / (1 + torch.exp(-x)),
        "early": 1 + torch.tanh(x),
        "later": 0.5 / (1 + torch.exp(-x)) + 0.5,
    }[variant.removeprefix("S1-").removeprefix("mult-").removesuffix("+residual")]
    return torch.diag(factor) @ weight, bias


@dataclass
class Mlp:
    """One layer's MLP weights in float64, (out, inp) each."""

    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor


def mlp_of(model: BaseModel, layer: int) -> Mlp:
    parts = model.parts(layer)
    return Mlp(*(getattr(parts, name).weight.double() for name in ("gate", "up", "down")))


def mlp_output(mlp: Mlp, x, variant=None, adapter: LayerAdapter | None = None, attention=None):
    """W_d (silu(W_g x) * W_u x) of one token, with the edits of `variant`."""
    changed = {} if adapter is None else adapter.modulations
    weights = {name: (getattr(mlp, name), 0.0) for name in ("gate", "up", "down")}
    for target in changed:
        weights[target] = edited(variant, weights[target][0], changed[target], attention)
    (W_g, b_g), (W_u, b_u), (W_d, b_d) = weights.values()
    return W_d @ (F.silu(W_g @ x + b_g) * (W_u @ x + b_u)) + b_d


@dataclass
class Seen:
    """(token, model) each: what a layer read, what attention made, what the MLP wrote, what left the layer."""

    hidden: torch.Tensor
    attention: torch.Tensor
    mlp_output: torch.Tensor
    output: torch.Tensor


class LiteralLlama:
    """A Llama from its formulas: RMS norms, rotary positions, grouped-query causal attention, SwiGLU."""

    def __init__(self, model: BaseModel):
        self.model = model
        self.weights = {name: w.double() for name, w in model.hf.state_dict().items()}
        config = model.config
        self.epsilon = config.rms_norm_eps
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.width = config.hidden_size // self.heads
        self.theta = config.rope_parameters["rope_theta"]

    def run(self, token_ids, lane=None, *, rope=True):
        """(what every layer saw, the normed final states, logits). lane: layer -> (variant, adapter).

        token_ids: (token,). The variant "dropped" is a layer without its attention.
        """
        hidden = self.weights["model.embed_tokens.weight"][token_ids]
        layers = []
        for layer in range(self.model.n_layers):
            variant, adapter = (lane or {}).get(layer, (None, None))
            layers.append(self.layer(layer, hidden, variant, adapter, rope=rope))
            hidden = layers[-1].output
        final = self.norm(hidden, "model.norm")
        return layers, final, final @ self.weights["lm_head.weight"].T

    def layer(self, layer, hidden, variant=None, adapter=None, *, rope=True) -> Seen:
        name = f"model.layers.{layer}"
        attention = self.attention(layer, self.norm(hidden, f"{name}.input_layernorm"), rope)
        mlp = mlp_of(self.model, layer)
        written, outputs = [], []
        for h, a in zip(hidden, attention, strict=True):
            z, z_C = (self.norm(x, f"{name}.post_attention_layernorm") for x in (h, h + a))
            if variant is None:
                y = mlp_output(mlp, z_C)
                out = h + a + y
            elif variant == "dropped":
                y = mlp_output(mlp, z)
                out = h + y
            elif variant == "S0":
                y = mlp_output(mlp, z_C, variant, adapter, a)
                out = h + y
            elif variant == "S0-pooled":
                y = mlp_output(mlp, z, variant, adapter, attention)
                out = h + y
            elif variant == "S0-residual" or variant.endswith("+residual"):
                y = mlp_output(mlp, z_C, variant, adapter, a)
                out = h + a + y
            else:
                y = mlp_output(mlp, z, variant, adapter, a)
                out = h + (a if variant in ADDS_ATTENTION_BESIDE else 0) + y
            written.append(y)
            outputs.append(out)
        return Seen(hidden, attention, torch.stack(written), torch.stack(outputs))

    def norm(self, x, name):
        weight = self.weights[f"{name}.weight"]
        return x / torch.sqrt((x**2).mean(-1, keepdim=True) + self.epsilon) * weight

    def attention(self, layer, x, rope):
        q, k, v, o = (
            self.weights[f"model.layers.{layer}.self_attn.{p}_proj.weight"] for p in ("q", "k", "v", "o")
        )
        n_tokens, width = len(x), self.width
        later = torch.ones(n_tokens, n_tokens, dtype=torch.bool).triu(1)
        heads = []
        for head in range(self.heads):
            group = head // (self.heads // self.groups)
            query = x @ q[head * width : (head + 1) * width].T
            key, value = (x @ w[group * width : (group + 1) * width].T for w in (k, v))
            if rope:
                query, key = (self.rotated(y) for y in (query, key))
            scores = (query @ key.T / math.sqrt(width)).masked_fill(later, -math.inf)
            heads.append(torch.softmax(scores, dim=-1) @ value)
        return torch.cat(heads, dim=-1) @ o.T

    def rotated(self, x):
        """Every pair (i, i + width/2) of token t turned by the angle t * theta^(-2i/width)."""
        half = self.width // 2
        turns = torch.tensor([self.theta ** (-2 * i / self.width) for i in range(half)], dtype=torch.float64)
        angle = torch.outer(torch.arange(len(x), dtype=torch.float64), turns)
        cos, sin = torch.cos(angle), torch.sin(angle)
        first, second = x[:, :half], x[:, half:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Exchanged(LiteralLlama):
    """One token of each layer runs with W + own · ΔW(its attention) + given · ΔW(the donor's attention)."""

    def __init__(self, model, variant, donors, token, own, given):
        super().__init__(model)
        self.variant, self.donors, self.token, self.own, self.given = variant, donors, token, own, given

    def layer(self, layer, hidden, variant=None, adapter=None, *, rope=True):
        seen = super().layer(layer, hidden, variant, adapter, rope=rope)
        if adapter is None:
            return seen
        mlp, token, h, a = (
            mlp_of(self.model, layer),
            self.token,
            hidden[self.token],
            seen.attention[self.token],
        )
        standard = variant == "S0-residual" or variant.endswith("+residual")
        x = self.norm(
            h + a if standard or variant == "S0" else h, f"model.layers.{layer}.post_attention_layernorm"
        )
        weights = {}
        for target in ("gate", "up", "down"):
            weight, bias = getattr(mlp, target), 0.0
            if target in adapter.modulations:
                for share, attention in ((self.own, a), (self.given, self.donors[layer])):
                    full, shift = edited(
                        variant, getattr(mlp, target), adapter.modulations[target], attention
                    )
                    weight = weight + share * (full - getattr(mlp, target))
                    bias = bias + share * shift
            weights[target] = weight, bias
        (W_g, b_g), (W_u, b_u), (W_d, b_d) = weights.values()
        y = W_d @ (F.silu(W_g @ x + b_g) * (W_u @ x + b_u)) + b_d
        keeps = standard or variant in ADDS_ATTENTION_BESIDE
        seen.output[token] = h + (a if keeps else 0) + y
        return seen
