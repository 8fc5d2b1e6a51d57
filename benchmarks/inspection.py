"""`inspect` against one bare forward of the base model, with logits, on the same prompt.

python -m benchmarks.inspection
"""

import torch

import npt_viz
from benchmarks.paired import machine, paired
from npt_viz.adapter import Semantics, random_adapter
from npt_viz.checkpoint import Checkpoint

N_TOKENS = 256


def main() -> None:
    model = npt_viz.open_model("smollm2-135m")
    ids = torch.randint(3, model.config.vocab_size, (1, N_TOKENS), generator=torch.Generator().manual_seed(0))
    prompt = ids[0].tolist()

    @torch.no_grad()
    def bare():
        return model.hf(input_ids=ids.to(model.device), use_cache=False).logits

    def checkpoint(layers, targets, components):
        shape = {"d_model": model.d_model, "d_ffn": model.d_ffn, "rank": 64, "components": components}
        adapters = {i: random_adapter(i, Semantics(), targets, **shape, std=0.01) for i in layers}
        return Checkpoint.from_adapters(adapters, model, "random")

    middle = checkpoint([15], ("gate", "up"), 1)
    several = checkpoint([10, 15, 20, 25], ("gate", "up", "down"), 2)
    print(f"inspect, {N_TOKENS} tokens, {model.name} in {model.dtype}; {machine()}")
    print("ratio to one bare forward of the base (median, range)")
    for name, opened in (("one NPT layer, 15", middle), ("four NPT layers, k = 2", several)):
        for mode in ("local", "propagated"):
            ratio = paired(lambda o=opened, m=mode: npt_viz.inspect(model, o, prompt, mode=m), bare)
            print(f"  {name:24} {mode:11} {ratio}")


if __name__ == "__main__":
    main()
