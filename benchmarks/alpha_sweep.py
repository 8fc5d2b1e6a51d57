"""An α sweep in lanes against editing the weights and running the whole model for every value.

python -m benchmarks.alpha_sweep
"""

from copy import deepcopy

import numpy as np
import psutil
import torch

import npt_viz
from benchmarks.paired import machine, paired
from npt_viz.editing.changes import edited_lane
from npt_viz.editing.lanes import last_log_p
from npt_viz.editing.sweep import default_alphas
from npt_viz.editing.updates import Factors, Place, Update

LAYER = 15
LENGTHS = (16, 256)


def main() -> None:
    model = npt_viz.open_model("smollm2-135m")
    rng = np.random.default_rng(0)
    v_a, v_b = rng.normal(size=(1, model.d_model)), rng.normal(size=(1, model.d_ffn))
    place = Place(LAYER, "gate")
    update = Update(factors={place: Factors(v_a / 100, v_b / 100)})
    alphas = default_alphas()
    memory = psutil.Process().memory_info().rss
    copy = deepcopy(model.hf)
    weight, before = copy.get_parameter(place.parameter), model.hf.get_parameter(place.parameter)
    delta = torch.from_numpy(update.factors[place].v_b).T @ torch.from_numpy(update.factors[place].v_a)
    delta = delta.to(weight)
    print(
        f"{len(alphas)} values of α, one gate edit of layer {LAYER}, {model.name} in {model.dtype}; {machine()}"
    )
    print(
        f"the baseline's own copy of the model takes {(psutil.Process().memory_info().rss - memory) / 1e6:.0f} MB"
    )
    for n_tokens in LENGTHS:
        ids = torch.from_numpy(rng.integers(3, model.config.vocab_size, (1, n_tokens)))

        def lanes(ids=ids):
            return last_log_p(
                model, [edited_lane(model, [update.at(float(a))]) for a in alphas], ids[0].tolist()
            )

        @torch.no_grad()
        def weights(keep: int, ids=ids):
            rows = []
            for alpha in alphas:
                torch.add(before, delta, alpha=float(alpha), out=weight)
                logits = copy(input_ids=ids.to(model.device), use_cache=False, logits_to_keep=keep).logits
                rows.append(logits[0, -1].float().log_softmax(-1).cpu())
            return torch.stack(rows)

        difference = float((lanes() - weights(1)).abs().max())
        print(
            f"{n_tokens} tokens; log-probabilities differ by at most {difference:.1e}; time of lanes over time of edits"
        )
        print(f"  whole model, all logits       {paired(lanes, lambda w=weights: w(0), pairs=3)}")
        print(f"  whole model, last logits only {paired(lanes, lambda w=weights: w(1), pairs=3)}")


if __name__ == "__main__":
    main()
