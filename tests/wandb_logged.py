"""What the offline runs in tests/runs/offline were made to log; run as a script with wandb 0.31, it makes them anew.

    python tests/wandb_logged.py FOLDER

A training by the columns of the public code: 12 steps, interrupted, resumed with the same id at step 9, 20 steps in all.
"""

import math
import sys

ID = "surgeon15"
CONFIG = {
    "model_name": "HuggingFaceTB/SmolLM2-135M",
    "np_rank": 192,
    "layer_idx": 15,
    "batch_size": 2,
    "max_length": 73,
    "loss": {"direct_mlp_weight": 1.0, "fidelity_weight": 0.1},
}
LATER = {"gradient_accumulation_steps": 5}
"""Set after the run began."""

PARTS = (range(1, 13), range(9, 21))
"""Steps of the run and of its resumption."""


def logged(step: int, part: int) -> list[dict]:
    """The calls to log of one step, in their order."""
    direct, fidelity = 2.0 / step + part, 0.7 / (step + 1)
    losses = {
        "total_loss": direct + 0.1 * fidelity + 0.001 * 0.25,
        "direct_mlp_loss": direct,
        "fidelity_loss": math.nan if step == 4 else fidelity,
        "regularization_loss": 0.25,
    }
    norms = {
        "learning_rate": 1e-4 * step,
        "grad_norm": -math.inf if step == 5 else 0.5 + step,
        "v_a_attention_similarity": 0.0 if step < 3 else 0.3,
        "layer_losses": {"layer_14_v_a_norm": 3.0 + step},
        "train/extra": {"deep": {"x": step}},
    }
    calls = [losses, norms]
    if step % 5 == 0:
        calls.append({"val_loss": 5.0 / step, "flag": True, "words": "a, b", "nothing": None})
    return calls


def make(folder: str) -> None:
    import wandb

    for part, steps in enumerate(PARTS):
        run = wandb.init(
            mode="offline",
            project="npt",
            name="gate of layer 15" if part == 0 else None,
            id=ID,
            resume="allow" if part else None,
            dir=folder,
            config=CONFIG,
            settings=wandb.Settings(
                x_disable_stats=True, x_disable_meta=True, console="off", disable_git=True, silent=True
            ),
        )
        for step in steps:
            for values in logged(step, part):
                run.log(values, step=step)
            if step % 10 == 0:
                run.log({"histogram": wandb.Histogram([1.0, 2.0, 4.0], num_bins=2)}, step=step)
        run.config.update(LATER)
        run.finish()


if __name__ == "__main__":
    make(sys.argv[1])
