"""Checkpoint files as other people's code writes them, from known tensors; nothing of npt_viz.checkpoint is used.

The formulas are written in each file's own orientation, in float64, one token at a time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

D_MODEL, D_FFN = 24, 31
"""Of conftest.tiny_model."""

NP, NP_COMPONENT = "layer_{}_np.", "model.layers.{}.np_component."
"""The two prefixes of format A."""


def drawn(*shape: int, seed: int) -> Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def widths(target: str) -> tuple[int, int]:
    """(inp, out) of a projection."""
    return (D_FFN, D_MODEL) if target == "down" else (D_MODEL, D_FFN)


def format_a(
    layer: int, targets=("gate",), *, components=1, rank=7, prefix=NP, indexed=None
) -> dict[str, Tensor]:
    """One layer; a gate alone has no suffix. indexed: write `.{j}` (by default where there are several)."""
    tensors = {}
    indexed = components > 1 if indexed is None else indexed
    for target in targets:
        inp, out = widths(target)
        suffix = "" if tuple(targets) == ("gate",) else f"_{target}"
        for j in range(components):
            end = suffix + (f".{j}" if indexed else "")
            seed = 1000 * layer + 100 * ["gate", "up", "down"].index(target) + 10 * j
            start = prefix.format(layer)
            tensors[f"{start}W_down{end}"] = drawn(D_MODEL, rank, seed=seed)
            tensors[f"{start}W_a_up{end}"] = drawn(rank, inp, seed=seed + 1)
            tensors[f"{start}W_b_up{end}"] = drawn(rank, out, seed=seed + 2)
    return tensors


def change_a(
    tensors, layer, target, attention, x, *, components=1, single=True, prefix=NP, indexed=None
) -> Tensor:
    """sum_j v_b,j (v_a,j . x) of one token."""
    indexed = components > 1 if indexed is None else indexed
    total = torch.zeros(widths(target)[1], dtype=torch.float64)
    for j in range(components):
        end = ("" if single else f"_{target}") + (f".{j}" if indexed else "")
        down, a_up, b_up = (
            tensors[f"{prefix.format(layer)}{role}{end}"].double() for role in ("W_down", "W_a_up", "W_b_up")
        )
        v_a, v_b = (attention.double() @ down) @ a_up, (attention.double() @ down) @ b_up
        total += v_b * (v_a @ x.double())
    return total


def format_b(layer: int, roles: tuple[str, ...], *, rank=7) -> dict[str, Tensor]:
    """One layer's adapter of nn.Linear modules, whose weights are (out, in)."""
    shapes = {
        "A_proj": (rank, D_MODEL),
        "B_model": (D_MODEL, rank),
        "B_ffn": (D_FFN, rank),
        "B_proj": (D_FFN, rank),
        "B_add": (D_FFN, rank),
        "B_mult": (D_FFN, rank),
    }
    return {
        f"model.layers.{layer}.adapter.{role}.weight": drawn(*shapes[role], seed=50 * layer + i)
        for i, role in enumerate(roles)
    }


S2, S0, S1 = ("A_proj", "B_model", "B_ffn"), ("A_proj", "B_proj"), ("A_proj", "B_add", "B_mult")
S1_ADD, S1_MULT = ("A_proj", "B_add"), ("A_proj", "B_mult")


def linears(tensors, layer, attention) -> dict[str, Tensor]:
    """What every B module of one layer gives for one token, after A_proj."""
    prefix = f"model.layers.{layer}.adapter."
    weights = {
        name.removeprefix(prefix).removesuffix(".weight"): tensor.double()
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    bottleneck = F.linear(attention.double(), weights.pop("A_proj"))
    return {role: F.linear(bottleneck, weight) for role, weight in weights.items()}


def format_c(layers: tuple[int, ...], *, rank=7, scale=0.37) -> dict:
    state = {}
    for layer in layers:
        state[f"layer_{layer}_A"] = drawn(D_MODEL, rank, seed=70 * layer)
        state[f"layer_{layer}_B"] = drawn(rank, D_FFN, seed=70 * layer + 1)
    config = {
        "base_model_name": "tiny",
        "npt_layer_indices": list(layers),
        "d_model": D_MODEL,
        "d_ffn": D_FFN,
        "rank": rank,
        "modulation_scale": scale,
    }
    return {"state_dict": state, "config": config}


def tokens(target: str = "gate", n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """(attention, input of the projection, its unmodulated output), one row a token."""
    inp, out = widths(target)
    return drawn(n, D_MODEL, seed=901), drawn(n, inp, seed=902), drawn(n, out, seed=903)
