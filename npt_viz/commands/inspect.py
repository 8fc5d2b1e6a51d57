"""What the modulation does at every token of one prompt."""

from npt_viz.commands._looking import Asked
from npt_viz.commands._options import TopK, with_shared_options
from npt_viz.commands._output import print_json, say, table

COLUMNS = {
    "scalar": "v_a·x",
    "v_a_dot_h": "v_a·h",
    "update_norm": "‖ΔW‖",
    "gate_change": "change",
    "relative_error": "error",
    "cosine": "cosine",
    "magnitude_ratio": "ratio",
    "recovered": "recovered",
}
"""Columns of the table of a layer: attribute of LayerInspection -> heading."""


@with_shared_options
def run(asked: Asked, *, top_k: TopK = 10) -> None:
    """Run one prompt through the base model and the NPT model, and compare them token by token."""
    question = asked.question
    import npt_viz
    from npt_viz.model.memory import out_of_memory_explained

    base, opened = asked.opened()
    with out_of_memory_explained("this inspection", "shorten the prompt, or choose fewer --layers"):
        inspection = npt_viz.inspect(base, opened, question, top_k=top_k)
    if asked.as_json:
        print_json(inspection_json(inspection))
    else:
        print(in_words(inspection))
    for note in inspection.notes:
        say(f"note: {note}")


def inspection_json(inspection) -> dict:
    """Inspection as a dict of columns, in the order of the tokens, and each layer's in a sentence."""
    from npt_viz.results.sentences.tokens import tokens

    columns = ("relative_error", "cosine", "magnitude_ratio", "recovered", "hidden_norm", "attention_norm")
    by_target = ("scalars", "dots_with_h", "update_norms", "component_norms", "component_effects", "changes")
    layers = {
        layer: {
            "variant": inspected.variant,
            "sentence": str(tokens(inspection, layer)),
            "targets": inspected.targets,
            "scalar": inspected.scalar,
            "v_a_dot_h": inspected.v_a_dot_h,
            "update_norm": inspected.update_norm,
            "gate_change": inspected.gate_change,
            **{name: getattr(inspected, name) for name in (*columns, *by_target)},
        }
        for layer, inspected in inspection.layers.items()
    }
    whole = ("prompt", "model", "checkpoint", "mode", "positions", "tokens", "token_ids", "is_sink")
    predicted = ("kl", "nll_base", "nll_npt", "nll_change")
    return {
        **{name: getattr(inspection, name) for name in (*whole, *predicted)},
        "token_kinds": [piece.kind for piece in inspection.pieces],
        "token_texts": [piece.raw for piece in inspection.pieces],
        "layers": layers,
        "base_top": _top(inspection.base_top),
        "npt_top": _top(inspection.npt_top),
        "notes": inspection.notes,
    }


def _top(table) -> list | None:
    """Rows [glyph, id, probability] of every token, most probable first."""
    return None if table is None else [table.rows(i) for i in range(len(table))]


def in_words(inspection) -> str:
    """Text of an Inspection for a terminal: a sentence and a table for each layer, then the predictions."""
    from npt_viz.results.sentences.tokens import tokens

    parts = [
        f"{inspection.checkpoint} on {inspection.model}, {inspection.mode}, positions as {inspection.positions}, "
        f"{len(inspection.pieces)} tokens"
    ]
    for layer, inspected in inspection.layers.items():
        columns = [inspected.values(name) for name in COLUMNS]
        rows = [
            (i, piece.glyph + (" (sink)" if inspection.is_sink[i] else ""), *(float(c[i]) for c in columns))
            for i, piece in enumerate(inspection.pieces)
        ]
        parts.append(str(tokens(inspection, layer)))
        parts.append(
            f"layer {layer} ({inspected.variant})\n" + table(("#", "token", *COLUMNS.values()), rows)
        )
    if inspection.kl is not None:
        rows = [
            (
                i,
                piece.glyph,
                float(inspection.kl[i]),
                _best(inspection.base_top, i),
                _best(inspection.npt_top, i),
            )
            for i, piece in enumerate(inspection.pieces)
        ]
        parts.append("next token\n" + table(("#", "after", "KL nats", "base", "NPT"), rows))
    return "\n\n".join([*parts, legend(inspection)])


def legend(inspection) -> str:
    """What the columns of the tables are, one a line, and why one of them is all dashes."""
    from npt_viz.results.inspection import METRICS, NO_V_A_DOT_H, TOKEN_METRICS

    headings = {heading: METRICS[name] for name, heading in COLUMNS.items()}
    if inspection.kl is not None:
        headings["KL nats"] = TOKEN_METRICS["kl"]
    lines = [
        f"  {heading}: {metric.label}{f', {metric.unit}' if metric.unit else ''}: {metric.meaning}"
        for heading, metric in headings.items()
    ]
    if any(inspected.main_target == "down" for inspected in inspection.layers.values()):
        lines.append(f"  –: {NO_V_A_DOT_H}")
    return "\n".join(["columns (of the gate, or of the first projection that is modulated):", *lines])


def _best(top, token: int) -> str:
    glyph, _, probability = top.rows(token)[0]
    return f"{glyph} {probability:.2f}"
