"""A layer-local training step against a plain loop that runs the whole teacher and student at every step.

python -m benchmarks.training
"""

import copy

import torch

import npt_viz
from benchmarks.paired import machine, paired
from npt_viz.adapter import mlp_trace
from npt_viz.capture.running import changed, forward_pass
from npt_viz.texts import bundled_texts
from npt_viz.training.losses.output import direct

LAYER, N_TOKENS = 15, 256


def main() -> None:
    model = npt_viz.open_model("smollm2-135m")
    spec = npt_viz.AdapterSpec(layers=(LAYER,), targets=("gate", "up"), rank=64)
    texts = bundled_texts()[:16]
    training = npt_viz.train(
        model, spec, texts, ["direct"], steps=10_000, batch_tokens=N_TOKENS, evaluate_every=10_000
    )
    adapter = copy.deepcopy(training.adapters[LAYER]).requires_grad_(True)
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=1e-3)
    ids = torch.tensor([model.tokenizer(" ".join(texts[:2]))["input_ids"][:N_TOKENS]])
    parts = model.parts(LAYER)

    def plain_step() -> None:
        seen = forward_pass(model, ids, record=[LAYER]).layers[LAYER]
        target = seen.attention[0] + seen.mlp_output[0]
        with torch.no_grad():
            unmodulated = mlp_trace(parts.mlp, parts.mlp_norm(seen.hidden[0])).output
        written = []
        hook = parts.mlp.register_forward_hook(lambda mlp, args, output: written.append(output[0]))
        try:
            with changed(model, [{LAYER: adapter}]), torch.enable_grad():
                model.hf(input_ids=ids.to(model.device), use_cache=False)
                direct(written[0].float(), target.float(), unmodulated.float()).backward()
        finally:
            hook.remove()
        optimiser.step()
        optimiser.zero_grad()

    ratio = paired(plain_step, lambda: next(training), pairs=9)
    print(f"gate + up, r = 64, layer {LAYER}, {N_TOKENS} tokens a step, {model.name}; {machine()}")
    print(f"plain step / local step: {ratio}")


if __name__ == "__main__":
    main()
