"""An α sweep in lanes against editing the weights and running the whole model for every value.

python -m benchmarks.alpha_sweep
"""

import threading
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import psutil
import torch

import npt_viz
from benchmarks.paired import machine, paired
from npt_viz.editing.changes import edited_lane
from npt_viz.editing.judging.lanes import last_log_p
from npt_viz.editing.judging.sweep import default_alphas
from npt_viz.editing.updates import Factors, Place, Update

LAYER = 15
PAIRS = {16: 5, 256: 2}
"""Tokens of the prompt -> pairs of runs."""


def main() -> None:
    model = npt_viz.open_model("smollm2-135m")
    rng = np.random.default_rng(0)
    place, alphas = Place(LAYER, "gate"), default_alphas()
    v_a, v_b = rng.normal(size=(1, model.d_model)), rng.normal(size=(1, model.d_ffn))
    update = Update(factors={place: Factors(v_a / 100, v_b / 100)})
    prompts = {n: torch.from_numpy(rng.integers(3, model.config.vocab_size, (1, n))) for n in PAIRS}

    def lanes(ids):
        return last_log_p(model, [edited_lane(model, [update.at(float(a))]) for a in alphas], ids[0].tolist())

    print(
        f"{len(alphas)} values of α, one gate edit of layer {LAYER}, {model.name} in {model.dtype}; {machine()}"
    )
    for n_tokens, ids in prompts.items():
        print(
            f"memory over the base, lanes, {n_tokens} tokens: {peak_megabytes(lambda i=ids: lanes(i)):.0f} MB"
        )
    before_copy = psutil.Process().memory_info().rss
    copy = deepcopy(model.hf)
    weight, before = copy.get_parameter(place.parameter), model.hf.get_parameter(place.parameter)
    print(
        f"memory over the base, a copy to edit: {(psutil.Process().memory_info().rss - before_copy) / 1e6:.0f} MB"
    )
    factors = update.factors[place]
    delta = (torch.from_numpy(factors.v_b).T @ torch.from_numpy(factors.v_a)).to(weight)

    @torch.no_grad()
    def weights(ids, keep: int):
        rows = []
        for alpha in alphas:
            torch.add(before, delta, alpha=float(alpha), out=weight)
            logits = copy(input_ids=ids.to(model.device), use_cache=False, logits_to_keep=keep).logits
            rows.append(logits[0, -1].float().log_softmax(-1).cpu())
        return torch.stack(rows)

    for n_tokens, ids in prompts.items():
        difference = float((lanes(ids) - weights(ids, 1)).abs().max())
        print(
            f"{n_tokens} tokens; log-probabilities differ by at most {difference:.1e}; time of lanes / time of edits"
        )
        for name, keep in (("all logits", 0), ("last logits only", 1)):
            ratio = paired(lambda i=ids: lanes(i), lambda i=ids, k=keep: weights(i, k), pairs=PAIRS[n_tokens])
            print(f"  whole model, {name:17} {ratio}   {1 / ratio.median:.1f} times as fast")


def peak_megabytes(work: Callable[[], object]) -> float:
    """What a piece of work takes at its peak over what the process held before, sampled every few milliseconds."""
    process, stop = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        stop.set()
        watcher.join()
    return (peak - before) / 1e6


if __name__ == "__main__":
    main()
