"""Preview a permanent update and export the edited model."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from npt_viz.commands._options import AsJson, Checkpoint, Device, Dtype, Model, Positions, Semantics, numbers
from npt_viz.commands._output import print_json, progress, say, table

if TYPE_CHECKING:
    from npt_viz.checkpoint import Checkpoint as OpenedCheckpoint

Rule = Annotated[
    Literal["npt", "exact", "minimum_norm", "whitened"],
    typer.Option("--rule", help="The token's own modulation, or the same effect with another key."),
]
Tokens = Annotated[
    str,
    typer.Option("--token", help="Position in the source, negative from its end; several as 2,5; or all."),
]


def run(
    model: Model,
    checkpoint: Checkpoint,
    source: Annotated[
        str,
        typer.Option("--source", help="The text whose token's modulation is written.", show_default=False),
    ],
    layer: Annotated[
        str, typer.Option("--layer", metavar="15", help="NPT layer, or several.", show_default=False)
    ],
    token: Tokens = "-1",
    alpha: Annotated[float, typer.Option("--alpha", help="Strength; 1 writes ΔW as it is.")] = 1.0,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Where the effect is looked at; the source by default.")
    ] = None,
    rule: Rule = "npt",
    combine: Annotated[
        Literal["mean", "sum"], typer.Option("--combine", help="Of ΔW over several tokens.")
    ] = "mean",
    components: Annotated[
        str | None, typer.Option("--components", metavar="0,2", help="All of them by default.")
    ] = None,
    protect: Annotated[
        list[str] | None,
        typer.Option("--protect", help="A prompt that must not notice the edit; may be given again."),
    ] = None,
    mode: Annotated[
        Literal["local", "propagated"],
        typer.Option("--mode", help="Whether the source runs through the base or the NPT model."),
    ] = "local",
    positions: Positions = "deployed",
    earlier: Annotated[
        list[str] | None,
        typer.Option(
            "--after",
            metavar="FILE",
            help="Earlier edits: a recipe, an export, or an injection_history.json.",
        ),
    ] = None,
    new: Annotated[
        str | None,
        typer.Option("--new", help="What should follow the prompt: sweeps α and marks the usable window."),
    ] = None,
    old: Annotated[
        str | None,
        typer.Option("--old", help="What should no longer follow; the model's own answer by default."),
    ] = None,
    continued: Annotated[
        int, typer.Option("--continue", min=0, help="Tokens of text before and after, greedy and sampled.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of the sampled text.")] = 0,
    export: Annotated[
        str | None, typer.Option("--export", metavar="DIR", help="Write the edited model to a new folder.")
    ] = None,
    kind: Annotated[
        Literal["lora", "merged", "recipe"],
        typer.Option("--kind", help="A PEFT adapter, a Hugging Face model, or JSON to replay."),
    ] = "lora",
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Rows of the next-token tables.")] = 10,
    semantics: Semantics = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Preview a permanent update in activation space; with --export, write the edited model."""
    layers = numbers("--layer", layer)
    tokens = token if token == "all" else numbers("--token", token)
    chosen = None if components is None else tuple(numbers("--components", components))
    import npt_viz
    from npt_viz.editing.judging.preview import continuations, preview_update

    base = npt_viz.open_model(model, dtype=dtype, device=device, progress=progress)
    opened = npt_viz.open_checkpoint(checkpoint, base, semantics)
    ledger = npt_viz.Ledger(base)
    for path in earlier or []:
        ledger.apply_all(_earlier(path, base, opened))
    settings = npt_viz.UpdateRule(
        name=rule,
        combine=combine,
        components=chosen,
        protect=tuple(protect or ()),
        mode=mode,
        positions=positions,
    )
    preview = preview_update(
        base, opened, source, layers, tokens, alpha, prompt=prompt, rule=settings, ledger=ledger, top_k=top_k
    )
    before = ledger.updates
    sweep = _sweep(base, preview, new, old, ledger) if new is not None else None
    preview.apply_to(ledger)
    values = preview_json(preview, ledger.report((_dtype_name(base),)))
    if sweep is not None:
        values["sweep"] = sweep
    if continued:
        texts = continuations(base, before, ledger.updates, preview.prompt, tokens=continued, seed=seed)
        values["continuations"] = [{"side": c.name, "style": c.style, "text": c.text} for c in texts]
    if export:
        exported = ledger.export(export, kind)
        values["exported"] = {"folder": str(exported.folder), "kind": kind, "notes": exported.notes}
    if as_json:
        print_json(values)
    else:
        print(in_words(values, preview))
    for note in preview.notes:
        say(f"note: {note}")


def preview_json(preview, report) -> dict:
    """A preview as plain values."""
    recovery = preview.recovery
    return {
        "prompt": preview.prompt,
        "base_top": preview.before.next_tokens,
        "updated_top": preview.after.next_tokens,
        "kl": preview.kl,
        "update_norm": preview.update.norm(),
        "update_norms": {place.parameter: norm for place, norm in preview.update.norms().items()},
        "tokens": [piece.glyph for piece in preview.pieces],
        "kl_per_token": preview.after.kl,
        "ranks": [row._asdict() for row in preview.next_tokens],
        "npt_on": None
        if preview.npt_after is None
        else {
            "before_top": preview.npt_before.next_tokens,
            "after_top": preview.npt_after.next_tokens,
            "kl_from_before": float(preview.npt_after.kl[-1]),
        },
        "recovery": None
        if recovery is None
        else {
            "with_context": recovery.with_context,
            "kl_plain": recovery.kl_plain,
            "kl_updated": recovery.kl_updated,
            "recovered": recovery.recovered,
        },
        "realised": [edit._asdict() for edit in report.edits],
        "origin": preview.update.origins[0],
    }


def in_words(values: dict, preview) -> str:
    """A preview as text for a terminal."""
    from npt_viz.results.sentences.answers import answer

    parts = [
        answer(preview),
        f"{preview.update.origins[0]}, α = {preview.update.alpha:g}, ‖ΔW‖ = {values['update_norm']:.4g}, "
        f"KL(before ‖ after) = {values['kl']:.4g} nats at the last token",
    ]
    rows = [
        (
            row["glyph"],
            row["probability_before"],
            row["probability_after"],
            row["rank_before"],
            row["rank_after"],
        )
        for row in values["ranks"]
    ]
    parts.append("next token\n" + table(("token", "p before", "p after", "rank before", "rank after"), rows))
    rows = [
        (e["parameter"], e["dtype"], e["relative_norm"], e["cosine"], e["changed"])
        for e in values["realised"]
    ]
    parts.append(
        "written into the weights\n" + table(("weight", "dtype", "‖ΔW‖/‖W‖", "cosine", "share changed"), rows)
    )
    if sweep := values.get("sweep"):
        names = ("alphas", "new_log_probability", "margin", "unrelated_kl", "perplexity")
        rows = list(zip(*(sweep[name] for name in names), strict=True))
        parts.append(
            f"{sweep['sentence']}\n" + table(("α", "log p new", "margin", "KL unrelated", "perplexity"), rows)
        )
    parts += [f"{c['side']}, {c['style']}:\n{c['text']}" for c in values.get("continuations", [])]
    if exported := values.get("exported"):
        parts.append(
            "\n".join([f"exported to {exported['folder']} ({exported['kind']})", *exported["notes"]])
        )
    return "\n\n".join(parts)


def _earlier(path: str, base, checkpoint: "OpenedCheckpoint") -> list:
    """Updates in a recipe, an exported folder or a published history."""
    from npt_viz.editing.files.recipe import updates_from_recipe
    from npt_viz.editing.making.history import updates_from_history
    from npt_viz.places import typed_path

    if typed_path(path).name == "injection_history.json":
        replayed = updates_from_history(path, base, checkpoint)
        for note in replayed.notes:
            say(f"note: {path}: {note}")
        return list(replayed.updates)
    return updates_from_recipe(path, base)


def _sweep(base, preview, new: str, old: str | None, ledger) -> dict:
    from npt_viz.editing.judging.sweep import alpha_sweep

    strengths = alpha_sweep(base, preview.update, preview.prompt, new, old, ledger=ledger, progress=progress)
    from npt_viz.results.sentences.editing import strengths as in_words

    return {
        "sentence": str(in_words(strengths)),
        "new": strengths.new,
        "old": strengths.old,
        "window": strengths.window,
        "before_perplexity": strengths.before_perplexity,
        **{
            name: list(map(float, getattr(strengths, name)))
            for name in ("alphas", "new_log_probability", "margin", "unrelated_kl", "perplexity")
        },
    }


def _dtype_name(base) -> str:
    return str(base.dtype).removeprefix("torch.")
