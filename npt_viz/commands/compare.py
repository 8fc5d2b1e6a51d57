"""Two of anything that can be inspected, token by token: checkpoints, layers, prompts, modes, positions, edits."""

from dataclasses import replace
from typing import Annotated, Literal

import typer

from npt_viz.commands._looking import Asked, write_again
from npt_viz.commands._options import Html, KeepSinks, Notebook, TopK, with_shared_options
from npt_viz.commands._output import print_json, say, table
from npt_viz.files import write_whole
from npt_viz.reproducing import Beneath

Recipe = Annotated[
    str | None,
    typer.Option(
        "--edits", metavar="FILE", help="Permanent updates beneath A: a recipe or an exported folder."
    ),
]

OF_B = "B's; A's by default."
NO_EDITS = "none"
"""What --b-edits says where A has edits and B has none."""


@with_shared_options
def run(
    asked: Asked,
    *,
    layer: Annotated[
        int | None, typer.Option("--layer", help="Layer looked at; the highest that both have by default.")
    ] = None,
    edits: Recipe = None,
    b_checkpoint: Annotated[str | None, typer.Option("--b-checkpoint", metavar="C", help=OF_B)] = None,
    b_prompt: Annotated[str | None, typer.Option("--b-prompt", help=OF_B)] = None,
    b_layer: Annotated[int | None, typer.Option("--b-layer", help=OF_B)] = None,
    b_layers: Annotated[str | None, typer.Option("--b-layers", metavar="3,15", help=OF_B)] = None,
    b_mode: Annotated[Literal["local", "propagated"] | None, typer.Option("--b-mode", help=OF_B)] = None,
    b_positions: Annotated[
        Literal["deployed", "trained"] | None, typer.Option("--b-positions", help=OF_B)
    ] = None,
    b_edits: Annotated[
        str | None,
        typer.Option("--b-edits", metavar="FILE", help=f"B's; A's by default, {NO_EDITS} for none."),
    ] = None,
    b_semantics: Annotated[str | None, typer.Option("--b-semantics", help=OF_B)] = None,
    metric: Annotated[
        str,
        typer.Option("--metric", help="What sentence and list are about: recovered, kl, cosine, scalar …"),
    ] = "recovered",
    most: Annotated[
        int, typer.Option("--most", min=1, help="Rows of the list of the largest differences.")
    ] = 20,
    top_k: TopK = 10,
    keep_sinks: KeepSinks = False,
    html: Html = None,
    notebook: Notebook = None,
) -> None:
    """Inspect A and B, align their tokens by a diff, and give A, B and B − A of every number."""
    said_of_b = {
        "checkpoint": b_checkpoint, "prompt": b_prompt, "layers": b_layers, "mode": b_mode, "positions": b_positions,
        "semantics": b_semantics,
    }  # fmt: skip
    asked_b = replace(asked, **{name: said for name, said in said_of_b.items() if said is not None})
    question, question_b = asked.question, asked_b.question
    import npt_viz
    from npt_viz.model.memory import out_of_memory_explained
    from npt_viz.results.comparison import COMPARED
    from npt_viz.results.sentences.comparison import comparison

    if metric not in COMPARED:
        raise npt_viz.NptVizError(f"--metric {metric} does not exist; choose one of {', '.join(COMPARED)}")
    base, opened = asked.opened()
    is_same = asked.typed == asked_b.typed
    opened_b = opened if is_same else npt_viz.open_checkpoint(asked_b.checkpoint, base, asked_b.semantics)
    recipe, recipe_b = edits, {None: edits, NO_EDITS: None}.get(b_edits, b_edits)
    beneath = _ledger(base, recipe)
    beneath_b = beneath if recipe_b == recipe else _ledger(base, recipe_b)
    with out_of_memory_explained("this comparison", "shorten the prompts, or choose fewer --layers"):
        a = npt_viz.inspect(base, opened, question, edits=beneath, top_k=top_k)
        b = npt_viz.inspect(base, opened_b, question_b, edits=beneath_b, top_k=top_k)
    found = npt_viz.compare(a, b, layer=_looked_at(a, b, layer, b_layer))
    if html is not None:
        write_whole(html, page(found, metric, most, keep_sinks))
        say(f"figures in {html}")
    if notebook is not None:
        choices = {
            "layers": found.layers, "of_a": question, "checkpoint_of_a": "" if is_same else asked.checkpoint,
            "semantics_of_a": asked.semantics or "", "metric": metric, "keep_sinks": keep_sinks,
            "beneath": (_beneath(recipe, beneath), _beneath(recipe_b, beneath_b)),
        }  # fmt: skip
        said = str(comparison(found, metric, with_sinks=keep_sinks))
        write_again(notebook, "compare", asked_b.typed, question_b, said, choices)
    if asked.as_json:
        print_json(comparison_json(found, metric, most, keep_sinks))
    else:
        print(in_words(found, metric, most, keep_sinks))
    for note in dict.fromkeys((*a.notes, *b.notes)):
        say(f"note: {note}")


def _ledger(base, path: str | None):
    """Ledger of a recipe's updates; None where there is none."""
    if path is None:
        return None
    import npt_viz

    ledger = npt_viz.Ledger(base)
    ledger.apply_all(npt_viz.updates_from_recipe(path, base))
    return ledger


def _beneath(path: str | None, ledger) -> Beneath:
    """The same for a notebook."""
    if path is None:
        return Beneath()
    return Beneath(recipe=path, digests=tuple(update.digest() for update in ledger.updates))


def _looked_at(a, b, layer: int | None, b_layer: int | None) -> int | tuple[int, int] | None:
    if layer is None and b_layer is None:
        return None
    if layer is None:
        return (b_layer if b_layer in a.layers else max(a.layers), b_layer)  # pyright: ignore[reportReturnType]
    return (layer, layer if b_layer is None else b_layer)


def comparison_json(found, metric: str, most: int, with_sinks: bool = False) -> dict:
    """A Comparison as plain values: what A and B are, the alignment, every number of every row, the next tokens."""
    from npt_viz.results.comparison import COMPARED
    from npt_viz.results.inspection import METRICS
    from npt_viz.results.sentences.comparison import comparison

    a, b = found.sides
    spread = found.spread(metric, with_sinks=with_sinks)
    of_layers = [name for name in found.metrics if name in METRICS]

    def numbers_of(name: str, row: tuple[int, int]) -> dict:
        columns = found.columns(name, row)
        return {"a": columns.a, "b": columns.b, "difference": columns.difference}

    return {
        "a": a,
        "b": b,
        "differs": found.differs,
        "sentence": str(comparison(found, metric, with_sinks=with_sinks)),
        "metric": metric,
        "label": COMPARED[metric].label,
        "tokens": [
            {"glyph": token.glyph, "id": token.id, "a": pair.a, "b": pair.b, "kind": pair.kind, "is_sink": bool(sink)}
            for token, pair, sink in zip(found.tokens, found.pairs, found.is_sink, strict=True)
        ],
        "spread": {"size": spread.size, "middle": spread.middle, "n": spread.n},
        "largest": [
            {
                "column": each.column, "token_a": each.pair.a, "token_b": each.pair.b, "glyph": each.token.glyph, "a": each.a,
                "b": each.b, "difference": each.difference, "stands_out": each.stands_out,
            }
            for each in found.largest(metric, most, with_sinks=with_sinks)
        ],
        "layers": [
            {"layer_a": row[0], "layer_b": row[1], "numbers": {name: numbers_of(name, row) for name in of_layers}}
            for row in found.rows
        ],
        "model": {name: numbers_of(name, found.layers) for name in found.metrics if name not in METRICS},
        "next": [
            {"a": _rows(found.a.npt_top, pair.a), "b": _rows(found.b.npt_top, pair.b)} for pair in found.pairs
        ],
        "notes": list(dict.fromkeys((*found.a.notes, *found.b.notes))),
    }  # fmt: skip


def _rows(top, token: int | None) -> list | None:
    """Rows [glyph, id, probability] of the NPT model after a token, most probable first."""
    return None if top is None or token is None else top.rows(token)


def in_words(found, metric: str, most: int, with_sinks: bool = False) -> str:
    """Text of a Comparison for a terminal: what A and B are, the sentence, and the largest differences."""
    from npt_viz.results.comparison import COMPARED
    from npt_viz.results.sentences.comparison import comparison

    a, b = found.sides
    parts = ["\n".join(f"{name}: {each.words}" for name, each in (("A", a), ("B", b)))]
    parts.append(str(comparison(found, metric, with_sinks=with_sinks)))
    rows = [
        (
            "–" if each.pair.a is None else each.pair.a, "–" if each.pair.b is None else each.pair.b, each.token.glyph,
            each.a, each.b, each.difference, "further than the spread" if each.stands_out else "", *_best(found, each.pair),
        )
        for each in found.largest(metric, most, with_sinks=with_sinks)
    ]  # fmt: skip
    if rows:
        headers = ("# A", "# B", "token", "A", "B", "B − A", "", "next, A", "next, B")
        parts.append(f"{COMPARED[metric].label}, the largest differences\n{table(headers, rows)}")
    return "\n\n".join(parts)


def page(found, metric: str, most: int, with_sinks: bool = False) -> str:
    """The page's sentence, figures and list as one HTML file."""
    from npt_viz.figures import comparison as figures
    from npt_viz.figures.document import document, drawn, heading, note, paragraph, rows
    from npt_viz.results.comparison import COMPARED
    from npt_viz.results.sentences.comparison import comparison
    from npt_viz.results.words import number

    largest = found.largest(metric, most, with_sinks=with_sinks)
    a, b = found.sides
    blocks = [
        *(note(f"{name}: {each.words}") for name, each in (("A", a), ("B", b))),
        paragraph(str(comparison(found, metric, with_sinks=with_sinks))),
        drawn(figures.differences(found, metric, with_sinks=with_sinks, pin=largest[0].column if largest else None)),
        drawn(figures.b_against_a(found, metric, with_sinks=with_sinks, height=420)),
        heading(f"The largest differences of {COMPARED[metric].label}"),
        rows(
            ["token", "in A", "in B", "A", "B", "B − A", "beyond the spread", "next, A", "next, B"],
            [
                (
                    each.token.glyph, each.pair.a, each.pair.b, number(each.a), number(each.b), number(each.difference),
                    "yes" if each.stands_out else "no", *_best(found, each.pair),
                )
                for each in largest
            ],
        ),
    ]  # fmt: skip
    return document(f"Compare: {a.checkpoint} and {b.checkpoint} on {a.model}", blocks)


def _best(found, pair) -> tuple[str, str]:
    tables = ((found.a.npt_top, pair.a), (found.b.npt_top, pair.b))
    best = (None if top is None else top.rows(token)[0] for top, token in tables)
    return tuple("–" if each is None else f"{each[0]} {each[2]:.2f}" for each in best)  # pyright: ignore[reportReturnType]
