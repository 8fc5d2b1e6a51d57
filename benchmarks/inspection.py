"""`inspect` against one bare forward of the base model, with logits, on the same prompt.

python -m benchmarks.inspection
"""

from collections.abc import Sequence

import torch

import npt_viz
from benchmarks.paired import paired
from benchmarks.table import table
from npt_viz.adapter import Semantics, random_adapter
from npt_viz.checkpoint import Checkpoint
from npt_viz.model.base import BaseModel

N_TOKENS, MIDDLE = 256, 15


def main() -> None:
    model = npt_viz.open_model("smollm2-135m")
    ids = torch.randint(3, model.config.vocab_size, (1, N_TOKENS), generator=torch.Generator().manual_seed(0))
    prompt = ids[0].tolist()

    @torch.no_grad()
    def bare():
        return model.hf(input_ids=ids.to(model.device), use_cache=False).logits

    middle = random_checkpoint(model, [MIDDLE], components=1)
    several = random_checkpoint(model, [10, 15, 20, 25], components=2)
    every = random_checkpoint(model, range(1, model.n_layers), components=1)
    title = f"inspect against a bare forward with logits, {N_TOKENS} tokens, {model.name} in {model.dtype}"
    with table("inspection", title) as rows:
        for name, opened in (("one NPT layer, 15", middle), ("four NPT layers, k = 2", several)):
            for mode in ("local", "propagated"):
                aim = 1.7 if opened is middle else None
                ratio = paired(lambda o=opened, m=mode: npt_viz.inspect(model, o, prompt, mode=m), bare)
                rows.ratio(f"{name}, {mode}", ratio, aim=aim)
        ratio = paired(lambda: npt_viz.inspect(model, middle, prompt, logits=False), bare)
        rows.ratio("one NPT layer, local metrics without a prediction", ratio, aim=0.6)
        ideal = paired(lambda: two_lanes(model, every, ids), bare)
        rows.ratio(
            f"ideal of {model.n_layers - 1} NPT layers: two rows and the adapters' own products", ideal
        )
        for mode in ("local", "propagated"):
            ratio = paired(
                lambda m=mode: npt_viz.inspect(model, every, prompt, mode=m),
                lambda: two_lanes(model, every, ids),
            )
            rows.ratio(
                f"{model.n_layers - 1} of {model.n_layers} layers, {mode} / that ideal", ratio, aim=1.15
            )


@torch.no_grad()
def two_lanes(model: BaseModel, checkpoint: Checkpoint, ids: torch.Tensor) -> None:
    """The least that base and NPT outputs of all layers take: two rows with logits, and every adapter's products."""
    model.hf(input_ids=ids.expand(2, -1).to(model.device), use_cache=False)
    for layer in checkpoint.layers:
        adapter = checkpoint.adapter(layer)
        x = torch.zeros(1, ids.shape[1], model.d_model, dtype=model.dtype, device=model.device)
        wide = torch.zeros(1, ids.shape[1], model.d_ffn, dtype=model.dtype, device=model.device)
        for target in adapter.targets:
            adapter.change(target, x, wide if target == "down" else x, x if target == "down" else wide)


def random_checkpoint(
    model: BaseModel,
    layers: Sequence[int],
    *,
    components: int,
    targets: Sequence[str] = ("gate", "up"),
    rank: int = 64,
) -> Checkpoint:
    """Random adapters of some layers."""
    shape = {"d_model": model.d_model, "d_ffn": model.d_ffn, "rank": rank, "components": components}
    adapters = {i: random_adapter(i, Semantics(), targets, **shape, std=0.01) for i in layers}
    return Checkpoint.from_adapters(adapters, model, "random")


if __name__ == "__main__":
    main()
