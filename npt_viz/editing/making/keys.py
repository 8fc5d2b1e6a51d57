"""Keys v_a of an update: the inputs it responds to. v_a x' is what leaks to another token's input x'."""

import torch
from torch import Tensor

from npt_viz.editing.updates import Factors
from npt_viz.errors import NptVizError
from npt_viz.shapes import Float

PROTECTED_SHARE = 1e-5
"""Directions whose share of what the protected prompts read is below this are left free."""

LEAST_EFFECT_KEPT = 1e-3
"""A projection that leaves less of the effect than this is refused: scaling it back up would be all noise."""


def minimum_norm_key(x: Float[Tensor, "token inp"]) -> Float[Tensor, "token inp"]:
    """Smallest v_a with v_a x = 1: x/‖x‖²."""
    return x / x.square().sum(-1, keepdim=True)


def whitened_key(
    x: Float[Tensor, "token inp"], reference: Float[Tensor, "n inp"], ridge: float
) -> Float[Tensor, "token inp"]:
    """v_a with v_a x = 1 and the least mean (v_a x')² over the reference inputs: C⁻¹x / (xᵀC⁻¹x).

    C is the second moment of the reference plus `ridge` times its mean eigenvalue on the diagonal: a text has
    fewer tokens than the input has dimensions, and outside their span C alone would punish nothing.
    """
    n, width = reference.shape
    home = x
    # On the CPU: not every accelerator has float64, which the small ridge needs.
    reference, x = reference.cpu().double(), x.cpu().double()
    shift = ridge * reference.square().sum() / (n * width)
    if n < width:
        # Woodbury's identity: the (inp, inp) matrix is never formed.
        gram = reference @ reference.T + n * shift * torch.eye(n, dtype=x.dtype)
        key = (x - torch.linalg.solve(gram, reference @ x.T).T @ reference) / shift
    else:
        moment = reference.T @ reference / n + shift * torch.eye(width, dtype=x.dtype)
        key = torch.linalg.solve(moment, x.T).T
    return (key / (key * x).sum(-1, keepdim=True)).to(home)


def without_effect_on(
    factors: Factors,
    protected: Float[Tensor, "n inp"],
    source: Float[Tensor, "token inp"],
    where: str,
) -> tuple[Factors, float]:
    """Factors with v_a projected off all inputs in `protected`, and the share of the effect at the source that is left.

    The result is scaled so that along the old effect at the source it adds what it added before.
    Raises NptVizError where the protected prompts span what the source reads.
    """
    _, sizes, directions = torch.linalg.svd(protected.cpu().double(), full_matrices=False)
    basis = directions[sizes > PROTECTED_SHARE * sizes[0]]
    v_a = torch.from_numpy(factors.v_a).double()
    v_b = torch.from_numpy(factors.v_b).double()
    kept = v_a - (v_a @ basis.T) @ basis
    x = source.cpu().double()
    before, after = (x @ v_a.T) @ v_b, (x @ kept.T) @ v_b
    share = float((before * after).sum() / before.square().sum())
    if not abs(share) > LEAST_EFFECT_KEPT:
        raise NptVizError(
            f"{where}: the protected prompts read everything that the source token reads ({len(basis)} directions of "
            f"{protected.shape[1]}), so nothing of the update is left; protect fewer or shorter prompts"
        )
    return Factors(kept.float().numpy(), (v_b / share).float().numpy()), share
