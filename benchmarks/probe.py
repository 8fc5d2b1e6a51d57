"""The counterfactual probe of one layer against one bare forward of the base on the same tokens (aim: six at most).

python -m benchmarks.probe
"""

import torch

import npt_viz
from benchmarks.paired import machine, paired
from npt_viz.adapter import Semantics, random_adapter
from npt_viz.capture.probe import SEQUENCES, probe, windows
from npt_viz.checkpoint import Checkpoint
from npt_viz.texts import bundled_texts

LAYER = 15


def main() -> None:
    model = npt_viz.open_model("smollm2-135m")
    sequences = windows(model, bundled_texts("heldout")[-SEQUENCES:], SEQUENCES)
    shape = {"d_model": model.d_model, "d_ffn": model.d_ffn}
    print(f"probe of one layer, {sum(map(len, sequences))} tokens, {model.name}; {machine()}")
    print("ratio to bare forwards of the same sequences, with logits (median, range)")

    def bare() -> None:
        with torch.no_grad():
            for ids in sequences:
                model.hf(input_ids=torch.tensor([ids], device=model.device), use_cache=False)

    for name, targets, rank, components in (
        ("gate, r 8", ("gate",), 8, 1),
        ("gate+up, r 64", ("gate", "up"), 64, 1),
        ("gate+up+down, r 64", ("gate", "up", "down"), 64, 1),
        ("gate+up+down, r 256, k 4", ("gate", "up", "down"), 256, 4),
    ):
        adapter = random_adapter(
            LAYER, Semantics(), targets, **shape, rank=rank, components=components, std=0.01
        )
        checkpoint = Checkpoint.from_adapters({LAYER: adapter}, model, "random")
        print(f"  {name:26} {paired(lambda c=checkpoint: probe(model, c), bare, pairs=3)}", flush=True)


if __name__ == "__main__":
    main()
