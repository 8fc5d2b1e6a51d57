"""Every setting of a training: what it is in a line, with its unit, and its name in library, command and page.

The one home of these lines for `npt-viz train --help` and the Training page. Imports without torch.
"""

from typing import Literal, NamedTuple

Home = Literal["AdapterSpec", "text", "Objective", "Recipe", "saving"]


class Setting(NamedTuple):
    """One setting."""

    home: Home
    """Where the library has it: AdapterSpec.of_variant, corpus_of, Objective, Recipe, or training.saving.Stated."""
    option: str
    """Of `npt-viz train`."""
    widgets: tuple[str, ...]
    """Keys on the Training page."""
    help: str
    """Without the default, which its home has."""


def _recipe(key: str, help: str, option: str | None = None) -> Setting:
    return Setting("Recipe", option or "", (f"training_{key}",), help)


SETTINGS: dict[str, Setting] = {
    "layers": Setting(
        "AdapterSpec",
        "--layers",
        ("training_layers",),
        "Layers to train; with a checkpoint, some of its layers.",
    ),
    "variant": Setting(
        "AdapterSpec",
        "--variant",
        ("training_variant",),
        "N1 … T1: forward pass, projections and scale, as docs/variants.md names them.",
    ),
    "targets": Setting(
        "AdapterSpec",
        "--targets",
        ("training_targets",),
        "Projections in place of the variant's own: gate, up, down; of rank-1 sums (N1–N5, S2).",
    ),
    "attention": Setting(
        "AdapterSpec",
        "--attention",
        ("training_attention",),
        "Place of the attention output a, of rank-1 sums: withheld (the MLP has to write a + MLP(z_C)) or beside (a "
        "stays in the stream, and the MLP has to write MLP(z_C)).",
    ),
    "scale": Setting(
        "AdapterSpec",
        "--scale",
        ("training_scale",),
        "modulation_scale: factor on the modulation; where the gate has a factor as well, on the added part alone.",
    ),
    "rank": Setting(
        "AdapterSpec", "--rank", ("training_rank",), "Width r of the bottleneck; at most d_model."
    ),
    "components": Setting(
        "AdapterSpec",
        "--components",
        ("training_components",),
        "Rank-1 updates k a token and projection (num_ranks), of rank-1 sums.",
    ),
    "initialisation": Setting(
        "AdapterSpec",
        "--initialisation",
        ("training_initialisation",),
        "attention: directions of the attention output itself, changes nothing yet. Published schemes, of rank-1 sums: "
        "improved and conservative for one layer, uniform for several.",
    ),
    "text": Setting(
        "text",
        "--text",
        ("training_text", "training_pasted", "training_file"),
        'A .txt file (one text) or a .jsonl file (one {"text": …} a line); the bundled sample by default.',
    ),
    "samples": Setting(
        "text",
        "--samples",
        ("training_samples",),
        "Texts of 256 tokens that the base model writes first, in place of a given text.",
    ),
    "tokens": Setting(
        "text",
        "--tokens",
        ("training_tokens",),
        "Tokens of text to use, at most: a random choice of its sequences; 0 takes all. What the base model does on "
        "them is captured once, before the first step.",
    ),
    "window": Setting(
        "text", "--window", ("training_window",), "Tokens of a sequence; longer texts are cut into several."
    ),
    "weights": Setting(
        "Objective",
        "--losses",
        ("training_preset", "training_on_*", "training_weight_*"),
        "Losses and their weights, for example direct=1,guidance:as_written=0.2; a name that does not exist lists them "
        "all.",
    ),
    "as_written": Setting(
        "Objective",
        "--losses",
        ("training_form_*",),
        "Losses that run in their published form, by NAME:as_written.",
    ),
    "adaptive": Setting(
        "Objective",
        "--adaptive",
        ("training_adaptive",),
        "gradient_norms: factors on the weights, inverse to each loss's running gradient norm with respect to the "
        "adapter. as_written: the published form takes the gradient of each loss with respect to itself, which is 1 for "
        "all, so every weight becomes 1/n whatever was given.",
    ),
    "stage_steps": Setting(
        "Objective",
        "--stages",
        ("training_staged", "training_stage_steps"),
        "S of the published three stages, in steps: until S the adapter learns to encode attention, from S to 3S the "
        "weights move on a line, from 3S on they are those given (attention encoding at a fifth). They replace the "
        "weights of direct, attention encoding, fidelity and regularisation. The jump at 3S is in the recipe.",
    ),
    "curriculum": Setting(
        "Objective",
        "--curriculum",
        (
            *("training_curriculum", "training_easy", "training_medium"),
            *("training_easy_quantile", "training_medium_quantile"),
        ),
        "Tokens whose attention output is small first: STEP:QUANTILE, until that step those with ‖a‖ below that "
        "quantile of the batch, then all.",
    ),
    "gradient_scale": Setting(
        "Objective",
        "--gradient-scale",
        ("training_gradient_scale",),
        "Factor on the gradient. AdamW divides by the gradient's own size and so undoes it; only clipping, which comes "
        "after, sets in earlier or later.",
    ),
    "steps": _recipe("steps", "Optimiser steps; of each layer, where layers train in order."),
    "seed": _recipe("seed", "Of the initialisation, the split of the text and the order of its tokens."),
    "learning_rate": _recipe("rate", "Peak of the schedule."),
    "warmup": _recipe("warmup", "Steps of linear warm-up."),
    "schedule": _recipe("schedule", "After the warm-up: cosine (to a hundredth of the peak) or constant."),
    "batch_tokens": _recipe(
        "batch", "Tokens a batch; losses on logits take whole sequences until there are as many."
    ),
    "accumulate": _recipe("accumulate", "Batches a step; their gradients are averaged."),
    "weight_decay": _recipe("decay", "AdamW's decoupled weight decay."),
    "clip": _recipe("clip", "Largest gradient norm of one layer's adapter."),
    "evaluate_every": _recipe(
        "every", "Steps between evaluations on held-out tokens; the last step is always evaluated."
    ),
    "whole_sequences": _recipe(
        "whole_sequences", "Batches of whole sequences, also where no loss needs them."
    ),
    "cosines_every": _recipe(
        "cosines_every", "Steps between measurements of the cosines of the losses' gradients."
    ),
    "stream": _recipe(
        "stream",
        "What a layer sees. base: the base model's activations; layers do not influence each other. in_order: one layer "
        "after the other, each on the stream that the trained ones below make, captured anew (self-correcting). "
        "end_to_end: all at once, on the stream as the running NPT model makes it.",
    ),
    "autocast": _recipe(
        "autocast", "bfloat16 for the products of the MLP; auto: where the adapter is on a GPU."
    ),
    "positions": Setting(
        "Recipe",
        "--positions",
        ("positions",),
        "deployed has RoPE; trained has none, as in the public training code.",
    ),
    "stored": Setting("saving", "--save-dtype", ("training_stored",), "Dtype of the saved weights."),
    "licence": Setting("saving", "--licence", ("training_licence",), "Written into the checkpoint."),
    "fault": Setting(
        "saving",
        "--fault",
        ("training_fault",),
        "What is wrong with the checkpoint, for a deliberately bad specimen.",
    ),
}
"""Name in the library -> the setting."""

SETTINGS = {
    name: setting._replace(option=setting.option or f"--{name.replace('_', '-')}")
    for name, setting in SETTINGS.items()
}


def line(name: str, default: object = None) -> str:
    """One line for a help text: what the setting is and, where it is given, its default."""
    return SETTINGS[name].help + (f" Default {default}." if default is not None else "")
