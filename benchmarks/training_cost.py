"""What a training step costs, in passes of a token through a layer: the constants of npt_viz/training/cost.py.

`OMP_NUM_THREADS=1 python -m benchmarks.training_cost` takes about a minute. Processor time: other work on the machine does not count.
"""

import time
from collections.abc import Callable

import torch

import npt_viz
from npt_viz.model.base import BaseModel
from npt_viz.texts import bundled_texts
from npt_viz.training.cost import ABOVE, unembedding_in_layers
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.trainer import train

LAYER, BATCH, STEPS, WARM = 15, 256, 10, 3

LOCAL = (("gate",), 1), (("gate", "up"), 1), (("gate", "up", "down"), 1), (("gate",), 4)
"""(targets, components)"""


def main() -> None:
    torch.set_num_threads(1)
    model = npt_viz.open_model("smollm2-135m")
    ids = torch.arange(2, 514)[None]
    forward(model, ids)
    one_layer = min(seconds(lambda: forward(model, ids)) for _ in range(4)) / ids.shape[1] / model.n_layers
    for targets, components in LOCAL:
        passes = step(model, targets, components, "direct_robust") / one_layer
        print(f"{'+'.join(targets):14} k = {components}: {passes:.1f} passes a token (LOCAL_STEP)")
    above = ABOVE * (model.n_layers - 1 - LAYER)
    passes = step(model, ("gate", "up"), 1, "kl") / one_layer
    logits = (passes - above) / unembedding_in_layers(model)
    print(f"a loss on logits: {passes:.0f} passes a token; {logits:.1f} times the unembedding (LOGITS)")


def forward(model: BaseModel, ids: torch.Tensor) -> None:
    with torch.no_grad():
        model.hf(ids)


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def step(model: BaseModel, targets: tuple[str, ...], components: int, losses: str) -> float:
    """Seconds of a step, for each of its tokens: the median."""
    spec = AdapterSpec(layers=(LAYER,), targets=targets, rank=64, components=components)
    training = train(
        model,
        spec,
        bundled_texts()[:10],
        losses,
        steps=STEPS,
        batch_tokens=BATCH,
        evaluate_every=STEPS,
        warmup=2,
    )
    taken = [seconds(lambda: next(training)) for _ in range(STEPS - 1)][WARM:]
    return sorted(taken)[len(taken) // 2] / BATCH


if __name__ == "__main__":
    main()
