"""The published initialisations, reimplemented from their description in the public NPT code.

All draw W_down Xavier-uniform. `improved` and `conservative` are its two single-layer schemes, `uniform` the one for
several layers; of several components only the first is drawn so, the others are orthogonal and smaller.
"""

import torch

from npt_viz.adapter import LayerAdapter, RankOneSum
from npt_viz.shapes import Float, Tensor

SCALE = {"improved": 0.001, "conservative": 0.001, "uniform": 0.01}
"""`init_scale`: of the uniform draws and of the further components."""


@torch.no_grad()
def initialise_as_published(adapter: LayerAdapter, scheme: str, *, seed: int) -> None:
    """Draw every weight of a rank_one_sum adapter.

    improved: W_a_up = I + 0.1 N(0, 1), W_b_up = 0.1 N(0, 2 / (rank + out)).
    conservative: W_a_up = 0.3 I + 0.01 N(0, 1), W_b_up uniform in ±0.001.
    uniform: W_a_up and W_b_up uniform in ±0.01.
    I is the identity cut or repeated to (rank, inp), so that v_a starts as a rotation of a.
    """
    generator = torch.Generator().manual_seed(seed)
    scale = SCALE[scheme]

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def uniform(bound: float, *shape: int) -> Tensor:
        return bound * (2 * torch.rand(*shape, generator=generator) - 1)

    for modulation in adapter.learned.values():
        assert isinstance(modulation, RankOneSum), "AdapterSpec refuses the other rules"
        k, width, rank = modulation.W_down.shape
        inp, out = modulation.W_a_up.shape[2], modulation.W_b_up.shape[2]
        for j in range(k):
            modulation.W_down[j] = uniform((6 / (width + rank)) ** 0.5, width, rank)
            if j > 0:
                modulation.W_a_up[j] = scale * _orthogonal(normal(rank, inp))
                modulation.W_b_up[j] = 0.1 * scale * _orthogonal(normal(rank, out))
            elif scheme == "uniform":
                modulation.W_a_up[j], modulation.W_b_up[j] = (
                    uniform(scale, rank, inp),
                    uniform(scale, rank, out),
                )
            elif scheme == "conservative":
                modulation.W_a_up[j] = 0.3 * _identity(rank, inp) + 0.01 * normal(rank, inp)
                modulation.W_b_up[j] = uniform(scale, rank, out)
            else:
                modulation.W_a_up[j] = _identity(rank, inp) + 0.1 * normal(rank, inp)
                modulation.W_b_up[j] = 0.1 * (2 / (rank + out)) ** 0.5 * normal(rank, out)


def _identity(rank: int, inp: int) -> Float[Tensor, "rank inp"]:
    return torch.eye(inp).repeat(-(-rank // inp), 1)[:rank]


def _orthogonal(noise: Float[Tensor, "rank inp"]) -> Float[Tensor, "rank inp"]:
    """Orthonormal rows, or columns where there are more rows."""
    tall = noise.T if noise.shape[0] < noise.shape[1] else noise
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal().sign()
    return q.T if noise.shape[0] < noise.shape[1] else q
