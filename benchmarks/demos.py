"""The demo checkpoints run for real on text that none of them was trained on, beside attention simply dropped.

python -m benchmarks.demos
"""

from pathlib import Path

import numpy as np
import torch

import npt_viz
from npt_viz.capture.predictions import predictions
from npt_viz.capture.running import NoAttention, forward_pass
from npt_viz.texts import bundled_texts
from npt_viz.training.overlap import seen_in_training

N_TEXTS = 16
DEMOS = Path(__file__).resolve().parents[1] / "checkpoints"


def main() -> None:
    model = npt_viz.open_model("smollm2-135m")
    texts = bundled_texts("heldout")[:N_TEXTS]
    sequences = [torch.tensor(model.tokenizer(text)["input_ids"]) for text in texts]
    print(f"{N_TEXTS} held-out texts of 256 tokens; perplexity, median KL(base ‖ ·) in nats, top-1 agreement")
    for folder in sorted(path.parent for path in DEMOS.glob("*/npt_config.json")):
        checkpoint = npt_viz.open_checkpoint(folder, model)
        adapters = {layer: checkpoint.adapter(layer) for layer in checkpoint.layers}
        dropped = {layer: NoAttention() for layer in adapters}
        found = []
        for ids in sequences:
            ran = forward_pass(model, ids[None], [{}, adapters, dropped])
            found.append(predictions(model, ran.final, ids, top_k=1))
        kl = np.concatenate([f.kl for f in found], axis=1)
        nll = np.concatenate([f.nll[:, :-1] for f in found], axis=1)
        agrees = np.concatenate([f.agrees for f in found], axis=1)
        seen = seen_in_training(checkpoint.recipe, sequences)
        print(folder.name + (f" ({seen.note})" if seen.note else ""))
        for lane, name in enumerate(("base", "NPT", "attention dropped")):
            print(
                f"  {name:18} {np.exp(nll[lane].mean()):7.2f}  {np.median(kl[lane]):7.4f}  {agrees[lane].mean():6.3f}"
            )


if __name__ == "__main__":
    main()
