"""The Reconstruction page's numbers against one bare forward of the base model, with logits, on the same prompt.

python -m benchmarks.reconstruction
"""

import numpy as np
import torch

import npt_viz
from benchmarks.paired import machine, paired
from npt_viz.adapter import Semantics, random_adapter
from npt_viz.analysis.gate_oracle import gate_oracle
from npt_viz.analysis.reconstruction import reconstruction
from npt_viz.capture.layer_trace import traces
from npt_viz.checkpoint import Checkpoint
from npt_viz.texts import bundled_texts

ORACLE_TOKENS, PAGE_TOKENS = 256, 512


def main() -> None:
    model = npt_viz.open_model("smollm2-135m")
    texts = "".join(bundled_texts("heldout")[:4])
    ids = model.tokenizer(texts)["input_ids"]

    def checkpoint(layers):
        shape = {"d_model": model.d_model, "d_ffn": model.d_ffn, "rank": 64}
        adapters = {i: random_adapter(i, Semantics(), ("gate", "up"), **shape, std=0.01) for i in layers}
        return Checkpoint.from_adapters(adapters, model, "random")

    def bare(n_tokens):
        tokens = torch.tensor([ids[:n_tokens]], device=model.device)
        with torch.no_grad():
            return model.hf(input_ids=tokens, use_cache=False).logits

    print(f"reconstruction, {model.name} in {model.dtype}; {machine()}")
    print("ratio to one bare forward of the base on the same tokens (median, range)")
    for name, layers in (("one NPT layer, 15", [15]), ("four NPT layers", [10, 15, 20, 25])):
        opened, prompt = checkpoint(layers), ids[:PAGE_TOKENS]
        ratio = paired(
            lambda o=opened, p=prompt: reconstruction(model, o, p), lambda: bare(PAGE_TOKENS), pairs=5
        )
        print(f"  page, {PAGE_TOKENS} tokens, {name:20} {ratio}")
    for layer in (5, 15):
        adapter = checkpoint([layer]).adapter(layer)
        seen = traces(model, {layer: adapter}, ids[:ORACLE_TOKENS])
        found = []

        def oracle(adapter=adapter, seen=seen, found=found):
            found.append(gate_oracle(model, adapter, seen.local[adapter.layer], counted=~seen.is_sink))

        ratio = paired(oracle, lambda: bare(ORACLE_TOKENS), pairs=5)
        error, movement = found[-1].relative_error[-1], found[-1].movement[-1]
        print(f"  gate oracle, {len(found[-1].tokens)} tokens, layer {layer:2}           {ratio}")
        print(
            f"    relative error median {np.median(error):.1e}, worst token {error.max():.1e}; "
            f"the gate moves {np.median(movement):.2f} times its norm (worst {movement.max():.2f})"
        )


if __name__ == "__main__":
    main()
