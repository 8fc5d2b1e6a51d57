"""What each variant costs: parameters, multiplications, and time beside the MLP that it changes.

python -m benchmarks.variants

The sizes are SmolLM2-135M's; the weights are random, because time does not depend on them.
"""

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from benchmarks.paired import machine, paired
from npt_viz.adapter import VARIANTS, mlp_trace, random_adapter

D_MODEL, D_FFN, RANK, N_TOKENS, PAIRS = 576, 1536, 64, 256, 61


def main() -> None:
    torch.manual_seed(0)
    mlp = LlamaMLP(LlamaConfig(hidden_size=D_MODEL, intermediate_size=D_FFN)).requires_grad_(False)
    own = sum(p.numel() for p in mlp.parameters())
    attention, x = torch.randn(2, N_TOKENS, D_MODEL)
    print(f"d_model {D_MODEL}, d_ffn {D_FFN}, r = {RANK}, {N_TOKENS} tokens, float32; {machine()}")
    print(f"the MLP has {own:,} parameters; all else is added to it\n")
    print("| variant | k | parameters | share | multiplications | time, median of pairs |")
    print("|---|---|---|---|---|---|")
    for variant, components in [*((name, 1) for name in VARIANTS if "residual" not in name), ("N5", 4)]:
        described = VARIANTS[variant]
        adapter = (
            random_adapter(
                15,
                described.semantics,
                described.targets,
                d_model=D_MODEL,
                d_ffn=D_FFN,
                rank=RANK,
                components=components,
            )
            .requires_grad_(False)
            .of_text(attention)
        )
        size = sum(p.numel() for p in adapter.parameters())
        # T1 uses A twice: on the attention and on the input.
        products = size + (D_MODEL * RANK if variant == "T1" else 0)
        time = paired(
            lambda adapter=adapter: adapter.mlp(mlp, attention, x), lambda: mlp_trace(mlp, x), pairs=PAIRS
        )
        k = {"S0": "–", "S1": "–", "T1": "r", "S0-pooled": "r"}
        k = k.get(variant, k.get(variant[:2], components))
        print(
            f"| {variant} | {k} | {size:,} | +{size / own:.1%} | +{products / own:.1%} | {time.median - 1:+.0%} |"
        )


if __name__ == "__main__":
    main()
