"""The factored modulation of many components against the einsum that forms (token, component, d_ffn).

python -m benchmarks.modulation

Time against the einsum and against the bare products of the same shapes; memory as what torch allocates beyond the result.
"""

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.paired import paired
from benchmarks.table import Row, table
from npt_viz.adapter.modulation import RankOneSum

N_TOKENS, D_MODEL, D_FFN, RANK, COMPONENTS = 256, 2048, 8192, 64, 64


@torch.no_grad()
def main() -> None:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-2] ** 0.5

    down, a_up, b_up = (
        normal(COMPONENTS, *shape) for shape in ((D_MODEL, RANK), (RANK, D_MODEL), (RANK, D_FFN))
    )
    modulation = RankOneSum(down, a_up, b_up)
    a, x = normal(N_TOKENS, D_MODEL), normal(N_TOKENS, D_MODEL)

    def factored() -> torch.Tensor:
        return modulation.change(a, x)

    def literal() -> torch.Tensor:
        p = torch.einsum("td,kdr->tkr", a, down)
        v_a = torch.einsum("tkr,kri->tki", p, a_up)
        v_b = torch.einsum("tkr,kro->tko", p, b_up)
        return torch.einsum("tki,ti,tko->to", v_a, x, v_b)

    # All that the factored form multiplies, as three products with nothing between them.
    wide_down = down.permute(1, 0, 2).reshape(D_MODEL, -1).contiguous()
    wide_a = a_up.permute(2, 0, 1).reshape(D_MODEL, -1).contiguous()
    wide_b = b_up.reshape(-1, D_FFN)
    inner = normal(N_TOKENS, COMPONENTS * RANK)

    def products() -> None:
        a @ wide_down
        x @ wide_a
        inner @ wide_b

    error = float((factored() - literal()).norm() / literal().norm())
    title = f"{N_TOKENS} tokens, k = {COMPONENTS}, r = {RANK}, {D_MODEL}/{D_FFN}, float32"
    with table("modulation", title) as rows:
        speed = paired(literal, factored, pairs=5)
        rows.ratio("einsum / factored, time", speed, aim=3, at_least=True)
        rows.ratio(
            "bare products / factored: share of the matmul rate",
            paired(products, factored),
            aim=0.8,
            at_least=True,
        )
        result = N_TOKENS * D_FFN * 4
        factored_bytes, literal_bytes = (peak_bytes(each) - result for each in (factored, literal))
        rows.add(
            Row(
                what="memory beyond the result, factored / einsum",
                value=factored_bytes / literal_bytes,
                aim=1 / 20,
                how=f"{factored_bytes / 1e6:.1f} MB against {literal_bytes / 1e6:.0f} MB; results differ by {error:.1e}",
            )
        )


def peak_bytes(work) -> int:
    """Most bytes that torch has allocated at a time while a piece of work runs, by its own profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    held = peak = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda each: each.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


if __name__ == "__main__":
    main()
