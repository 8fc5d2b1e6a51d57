"""Training steps against a plain loop that runs the whole teacher and student at every step.

python -m benchmarks.training

Three rows: a loss local to the layer; a loss on logits, for which the layers above have to run; and how much of this
machine's matrix-product rate a local step reaches (its multiplications, counted by torch, done as bare products of
the MLP's shape).
"""

import copy
import math

import torch
from torch.utils.flop_counter import FlopCounterMode

import npt_viz
from benchmarks.paired import Ratio, machine, paired
from npt_viz.adapter import mlp_trace
from npt_viz.capture.running import changed, forward_pass
from npt_viz.texts import bundled_texts
from npt_viz.training.losses.output import direct
from npt_viz.training.trainer import Training

LAYER, N_TOKENS, PAIRS, IN_A_ROW = 15, 256, 9, 20


def main() -> None:
    model = npt_viz.open_model("smollm2-135m")
    texts = [text for text in bundled_texts() if len(model.tokenizer(text)["input_ids"]) >= N_TOKENS][:16]
    print(f"gate + up, r = 64, layer {LAYER}, {N_TOKENS} tokens a step, {model.name}; {machine()}\n")
    print("| | ratio, median of pairs (range) | times |\n|---|---|---|")
    local, fidelity = (begun(model, texts, loss) for loss in ("direct", "fidelity"))
    plain = PlainLoop(model, texts[0], local)
    # Steps in a row, as a training takes them: the first after a whole model finds every cache cold.
    several = paired(plain.direct_step, lambda: taken(local, IN_A_ROW), pairs=PAIRS)
    row("plain step / local step, aim ≥ 50", several, IN_A_ROW)
    row(
        "plain step / fidelity step, aim ≥ 1.8",
        paired(plain.fidelity_step, lambda: next(fidelity), pairs=PAIRS),
    )
    products = bare_products(model, counted(local))
    row("bare products / local step, aim ≥ 0.5", paired(products, lambda: next(local), pairs=10 * PAIRS))


def begun(model, texts, loss: str) -> Training:
    spec = npt_viz.AdapterSpec(layers=(LAYER,), targets=("gate", "up"), rank=64)
    settings = {"steps": 100_000, "evaluate_every": 100_000, "batch_tokens": N_TOKENS}
    return npt_viz.train(model, spec, texts, loss, **settings)


class PlainLoop:
    """What one writes first: the base model, then the NPT model, then backward, at every step."""

    def __init__(self, model, text: str, training: Training) -> None:
        self.model, self.parts = model, model.parts(LAYER)
        self.ids = torch.tensor([model.tokenizer(text)["input_ids"][:N_TOKENS]])
        self.adapter = copy.deepcopy(training.adapters[LAYER]).requires_grad_(True)
        self.optimiser = torch.optim.AdamW(self.adapter.parameters(), lr=1e-3)

    def direct_step(self) -> None:
        seen = forward_pass(self.model, self.ids, record=[LAYER]).layers[LAYER]
        target = seen.attention[0] + seen.mlp_output[0]
        with torch.no_grad():
            unmodulated = mlp_trace(self.parts.mlp, self.parts.mlp_norm(seen.hidden[0])).output
        written = []
        hook = self.parts.mlp.register_forward_hook(lambda mlp, args, output: written.append(output[0]))
        try:
            with changed(self.model, [{LAYER: self.adapter}]), torch.enable_grad():
                self.model.hf(input_ids=self.ids, use_cache=False)
                direct(written[0].float(), target.float(), unmodulated.float()).backward()
        finally:
            hook.remove()
        self._update()

    def fidelity_step(self) -> None:
        with torch.no_grad():
            taught = self.model.hf(input_ids=self.ids, use_cache=False).logits
        with changed(self.model, [{LAYER: self.adapter}]), torch.enable_grad():
            logits = self.model.hf(input_ids=self.ids, use_cache=False).logits
            torch.nn.functional.mse_loss(logits.float(), taught.float()).backward()
        self._update()

    def _update(self) -> None:
        self.optimiser.step()
        self.optimiser.zero_grad()


def counted(training: Training) -> int:
    """Floating-point operations of one step's matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        next(training)
    return counter.get_total_flops()


def bare_products(model, flops: int):
    """At least as many operations as products of the gate's shape and nothing else."""
    x, weight = torch.randn(N_TOKENS, model.d_model), torch.randn(model.d_ffn, model.d_model)
    repeats = math.ceil(flops / (2 * N_TOKENS * model.d_model * model.d_ffn))

    def products() -> None:
        for _ in range(repeats):
            x @ weight.T

    return products


def taken(training: Training, n: int) -> None:
    for _ in range(n):
        next(training)


def row(what: str, ratio: Ratio, n: int = 1) -> None:
    """n: how many steps the baseline took at a time."""
    times = f"{ratio.candidate * 1e3:.1f} ms against {ratio.baseline / n * 1e3:.1f} ms"
    print(f"| {what} | {n * ratio.median:.2f} ({n * ratio.low:.2f} to {n * ratio.high:.2f}) | {times} |")


if __name__ == "__main__":
    main()
