"""How well the modulated MLP replaces attention, layer by layer and token by token."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from npt_viz.commands._looking import AskedPage, Looked, looked_at, told
from npt_viz.commands._options import KeepSinks, with_shared_options
from npt_viz.commands._output import progress, table

if TYPE_CHECKING:
    from npt_viz.results.reconstruction import PositionsCompared

METRICS = (
    "recovered", "relative_error", "cosine", "magnitude_ratio", "error_along", "error_beside", "unmodulated_error",
    "exact_error",
)  # fmt: skip
"""Columns of LayerFit that are printed."""


@with_shared_options
def run(
    asked: AskedPage,
    *,
    keep_sinks: KeepSinks = False,
    limits: Annotated[
        bool,
        typer.Option(
            "--limits", help="Also the best gate of --layer, and what its shape allows; takes minutes."
        ),
    ] = False,
    ablations: Annotated[
        bool,
        typer.Option("--ablations", help="Also what scalar, direction, sign and size of --layer are worth."),
    ] = False,
    downstream: Annotated[
        Literal["prompt", "sample"] | None,
        typer.Option("--downstream", help="Also the predictions on the prompt, or on texts of the sample."),
    ] = None,
) -> None:
    """Compare every NPT layer with the attention it replaces, in both modes and with both kinds of positions."""
    looked = looked_at(asked, keep_sinks=keep_sinks)
    compared = positions_compared(looked)
    more = _limits(looked) if limits else {}
    if ablations:
        more["ablations"] = _ablations(looked)
    if downstream is not None:
        more["downstream"] = _downstream(looked, downstream)
    found = reconstruction_json(looked, compared, more)
    told(
        looked,
        found,
        in_words(found),
        page=lambda: page(looked, compared, found["sentence"], more),
        name="reconstruction",
        choices={"layer": looked.layer, "keep_sinks": keep_sinks},
    )


def positions_compared(looked: Looked) -> "PositionsCompared":
    """The prompt with the positions asked for, read from the pass that is at hand, and with the others."""
    from npt_viz.analysis.reconstruction import positions_compared
    from npt_viz.results.reconstruction import PositionsCompared

    compared = positions_compared(
        looked.model, looked.checkpoint, looked.question, kept_pass=looked.kept_pass
    )
    return PositionsCompared(
        deployed=replace(compared.deployed, is_sink=looked.left_out),
        trained=replace(compared.trained, is_sink=looked.left_out),
    )


def _limits(looked: Looked) -> dict:
    import torch

    from npt_viz.analysis.class_floor import class_floor, classes_to_try
    from npt_viz.analysis.gate_oracle import gate_oracle
    from npt_viz.capture.inspection import adapters_of
    from npt_viz.capture.layer_trace import traces
    from npt_viz.results.reconstruction import FLOOR_TEXTS
    from npt_viz.texts import bundled_texts

    base, question, run = looked.model, looked.question, looked.run
    adapters = adapters_of(looked.checkpoint, question.layers)
    both = traces(base, adapters, run.token_ids, positions=question.positions, kept_pass=looked.kept_pass)
    trace, adapter = both.of(question.mode)[looked.layer], adapters[looked.layer]
    with base.lock:
        oracle = gate_oracle(base, adapter, trace, counted=torch.from_numpy(~looked.left_out))
    floors = []
    for targets in classes_to_try(adapter):
        stage = f"fitting {'+'.join(targets)}"
        floors.append(
            class_floor(
                base,
                adapter,
                bundled_texts("heldout")[:FLOOR_TEXTS],
                recipe=looked.checkpoint.recipe,
                targets=targets,
                positions=question.positions,
                progress=lambda done, total, stage=stage: progress(stage, done / total),
            )
        )
    return {"gate_oracle": oracle, "floors": floors}


def _ablations(looked: Looked):
    from npt_viz.analysis.ablation import ablation_table

    adapter = looked.checkpoint.adapter(looked.layer)
    return ablation_table(looked.model, adapter, looked.run.token_ids, positions=looked.question.positions)


def _downstream(looked: Looked, text: str):
    from npt_viz.analysis.downstream import downstream
    from npt_viz.results.reconstruction import REFERENCE_TEXTS
    from npt_viz.texts import bundled_texts

    texts = [looked.run.token_ids] if text == "prompt" else bundled_texts("heldout")[:REFERENCE_TEXTS]
    question = looked.question
    return downstream(
        looked.model,
        looked.checkpoint,
        texts,
        layers=question.layers,
        positions=question.positions,
        progress=lambda done, total: progress("running the prediction", done / total),
    )


def reconstruction_json(looked: Looked, compared: "PositionsCompared", more: dict) -> dict:
    """The page's numbers: each layer's sentence, medians and columns in both modes and with both positions."""
    from npt_viz.question import MODES
    from npt_viz.results.sentences.reconstruction import answer

    run, chosen = looked.run, compared.runs[looked.question.positions]
    floors = more.get("floors", [])
    layers = {}
    for layer in chosen.layers:
        fit = chosen.local[layer]
        sentence = answer(
            compared,
            run,
            layer,
            with_sinks=looked.keep_sinks,
            floors=floors if layer == looked.layer else (),
        )
        layers[layer] = {
            "sentence": str(sentence),
            "variant": fit.variant,
            "reconstructs": fit.reconstructs,
            "medians": {
                positions: {
                    mode: {name: result.median(name, layer, mode) for name in METRICS} for mode in MODES
                }
                for positions, result in compared.runs.items()
            },
            **{mode: {name: getattr(chosen.fits(mode)[layer], name) for name in METRICS} for mode in MODES},
            "worst_tokens": chosen.worst(layer, looked.question.mode),
        }
    return {
        "sentence": layers[looked.layer]["sentence"],
        "n_counted": chosen.n_counted,
        "layers": layers,
        "kl": run.kl,
        **_more_json(looked, more),
    }


def _more_json(looked: Looked, more: dict) -> dict:
    from npt_viz.results.sentences.reconstruction import ablations, class_floor, downstream, gate_oracle

    question, found = looked.question, {}
    if "gate_oracle" in more:
        sentence = gate_oracle(more["gate_oracle"], mode=question.mode, positions=question.positions)
        found["gate_oracle"] = {"sentence": str(sentence), "result": more["gate_oracle"]}
        found["floors"] = [{"sentence": str(class_floor(each)), "result": each} for each in more["floors"]]
    if "ablations" in more:
        result = more["ablations"]
        sentence = ablations(result, positions=question.positions)
        medians = {
            row.name: {name: result.median(name, row) for name in ("recovered", "relative_error", "kl")}
            for row in result.rows
        }
        found["ablations"] = {"sentence": str(sentence), "medians": medians, "result": result}
    if "downstream" in more:
        result = more["downstream"]
        arms = [
            {
                "layers": arm.layers,
                "share_recovered": arm.share_recovered,
                **{
                    name: {
                        key: getattr(each, key) for key in ("median_kl", "mean_kl", "perplexity", "agreement")
                    }
                    for name, each in (("npt", arm.npt), ("off", arm.off))
                },
            }
            for arm in result.arms
        ]
        sentence = downstream(
            result, result.whole, text="this prompt" if result.n_sequences == 1 else "reference text"
        )
        found["downstream"] = {
            "sentence": str(sentence),
            "perplexity_base": result.perplexity_base,
            "arms": arms,
            "result": result,
        }
    return found


def in_words(found: dict) -> str:
    """The same for a terminal: each layer's sentence, and a table of medians."""
    rows = [
        (layer, positions, mode, *(medians[name] for name in METRICS[:4]))
        for layer, each in found["layers"].items()
        for positions, by_mode in each["medians"].items()
        for mode, medians in by_mode.items()
    ]
    sentences = [each["sentence"] for each in found["layers"].values()]
    for name in ("gate_oracle", "ablations", "downstream"):
        sentences += [found[name]["sentence"]] if name in found else []
    sentences += [each["sentence"] for each in found.get("floors", [])]
    headings = ("layer", "positions", "mode", "recovered", "error", "cosine", "size")
    return "\n\n".join([*sentences, f"medians of {found['n_counted']} tokens\n" + table(headings, rows)])


def page(looked: Looked, compared: "PositionsCompared", sentence: str, more: dict) -> str:
    """The page's figures as one HTML file."""
    from npt_viz.figures import downstream as predictions
    from npt_viz.figures import reconstruction as figures
    from npt_viz.figures.document import document, drawn, heading, note, paragraph, rows
    from npt_viz.figures.maps import metric_map
    from npt_viz.results.words import number

    run, question = looked.run, looked.question
    fit = compared.runs[question.positions].fits(question.mode)[looked.layer]
    floors = more.get("floors")
    blocks = [
        paragraph(sentence),
        drawn(
            figures.shares_by_layer(
                compared,
                mode=question.mode,
                positions=question.positions,
                floors={looked.layer: floors} if floors else None,
                pin=looked.layer,
            )
        ),
        heading("Share recovered by layer and token"),
        drawn(
            metric_map(
                run,
                "recovered",
                left_out=looked.left_out,
                pin=(looked.layer, looked.token),
                shown=looked.shown,
            )
        ),
        heading(f"The error of layer {looked.layer}, along a and beside it"),
        drawn(figures.error_parts(fit, tokens=run.tokens, left_out=looked.left_out, pin=looked.token)),
        heading("Worst tokens"),
        rows(
            ["token", "#", "error", "no mod.", "cosine", "size"],
            [
                (
                    run.tokens[i],
                    i,
                    *(
                        number(float(values[i]))
                        for values in (
                            fit.relative_error,
                            fit.unmodulated_error,
                            fit.cosine,
                            fit.magnitude_ratio,
                        )
                    ),
                )
                for i in compared.runs[question.positions].worst(looked.layer, question.mode)
            ],
        ),
    ]
    described = _more_json(looked, more)
    if "gate_oracle" in more:
        blocks += [
            heading("The gate alone, token by token"),
            drawn(figures.gate_trade_off(more["gate_oracle"])),
        ]
        blocks += [note(described["gate_oracle"]["sentence"])]
        blocks += [note(each["sentence"]) for each in described["floors"]]
    if "ablations" in more:
        blocks += [heading("Ablations"), paragraph(described["ablations"]["sentence"])]
        blocks += [drawn(figures.ablations(more["ablations"]))]
    if "downstream" in more:
        result = more["downstream"]
        blocks += [heading("Predictions"), paragraph(described["downstream"]["sentence"])]
        blocks += [drawn(predictions.kl_by_arm(result)), drawn(predictions.drift(result))]
        blocks += [drawn(predictions.cascade(result))] if len(result.layers) > 1 else []
    return document(f"Reconstruction: {run.checkpoint} on {run.model}", blocks)
