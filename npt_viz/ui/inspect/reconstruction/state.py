"""Reconstruction page: cached calls, and those that wait for a button."""

from dataclasses import replace

import streamlit as st

from npt_viz.question import Positions
from npt_viz.results.downstream import Continuations, Downstream
from npt_viz.results.reconstruction import (
    FLOOR_TEXTS,
    REFERENCE_TEXTS,
    AblationTable,
    ClassFloor,
    GateOracle,
    PositionsCompared,
    Reconstruction,
)
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.on_demand import computed, on_demand, seconds_per_token, waiting, want
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.widgets.view import View


@st.cache_data(max_entries=32, show_spinner=False)
def _reconstruction(asked: Asked) -> Reconstruction:
    from npt_viz.analysis.reconstruction import reconstruction

    model, checkpoint = opened.opened(asked.selection)
    return reconstruction(model, checkpoint, asked.question, kept_pass=opened.kept_pass(asked))


@st.cache_data(max_entries=32, show_spinner=False)
def _ablations(asked: Asked, layer: int) -> AblationTable:
    from npt_viz.analysis.ablation import ablation_table

    model, checkpoint = opened.opened(asked.selection)
    run = opened.inspection(asked)
    return ablation_table(model, checkpoint.adapter(layer), run.token_ids, positions=asked.question.positions)


@st.cache_data(max_entries=32, show_spinner="Writing on")
def _continuations(asked: Asked, n_tokens: int) -> Continuations:
    from npt_viz.analysis.continuation import continuations

    model, checkpoint = opened.opened(asked.selection)
    return continuations(model, checkpoint, asked.question, n_tokens=n_tokens)


def reconstruction_of(view: View, positions: str | None = None) -> Reconstruction:
    """Reconstruction in both modes; sinks count where the head says so."""
    asked = _any_mode(view, positions)
    with waiting(view.selection, "Comparing with the references", 2, len(view.run.pieces), of=asked):
        result = _reconstruction(asked)
    return replace(result, is_sink=view.left_out)


def positions_compared(view: View) -> PositionsCompared:
    """Reconstruction with real positions beside that without RoPE."""
    return PositionsCompared(
        deployed=reconstruction_of(view, "deployed"), trained=reconstruction_of(view, "trained")
    )


def ablations_of(view: View) -> AblationTable:
    """Ablations of the pinned layer."""
    from npt_viz.analysis.ablation import MAX_TOKENS

    n_tokens = min(MAX_TOKENS, len(view.run.pieces))
    asked = _any_mode(view)
    with waiting(view.selection, "Ablating the modulation", 10, n_tokens, of=(asked, view.layer)):
        return _ablations(asked, view.layer)


def continuations_of(view: View, n_tokens: int) -> Continuations:
    """Continuations of the prompt by the three models."""
    return _continuations(_any_mode(view), n_tokens)


def oracle_of(view: View) -> GateOracle | None:
    """Best gate of the pinned layer in the chosen mode; None until it was asked for."""
    from npt_viz.analysis.gate_oracle import MAX_TOKENS, cost, gate_oracle
    from npt_viz.capture.inspection import adapters_of
    from npt_viz.capture.layer_trace import traces

    asked, layer = view.asked, view.layer
    model, checkpoint = opened.opened(asked.selection)

    def compute(progress) -> GateOracle:
        import torch

        adapters = adapters_of(checkpoint, asked.question.layers)
        both = traces(model, adapters, view.run.token_ids, positions=asked.question.positions)
        of_mode = both.of(asked.question.mode)
        counted = torch.from_numpy(~view.left_out)
        with model.lock:
            return gate_oracle(model, adapters[layer], of_mode[layer], counted=counted, progress=progress)

    n_tokens = min(MAX_TOKENS, len(view.run.pieces))
    seconds = cost(model) * n_tokens * seconds_per_token(asked.selection)
    key = ("gate oracle", asked, layer, view.with_sinks)
    return on_demand(key, "Find the best gate", seconds, compute, key="reconstruction_oracle")


def floor_of(view: View, targets: tuple[str, ...]) -> ClassFloor | None:
    """Floor of the pinned layer's shape with these targets; None until it was asked for."""
    from npt_viz.analysis.class_floor import class_floor, cost
    from npt_viz.texts import bundled_texts

    asked, layer = view.asked, view.layer
    model, checkpoint = opened.opened(asked.selection)
    texts = bundled_texts("heldout")[:FLOOR_TEXTS]

    def compute(progress) -> ClassFloor:
        return class_floor(
            model,
            checkpoint.adapter(layer),
            texts,
            recipe=checkpoint.recipe,
            targets=targets,
            positions=asked.question.positions,
            progress=progress,
        )

    n_tokens = sum(len(text) for text in texts) // 4
    seconds = cost(model, layer, n_tokens) * seconds_per_token(asked.selection)
    label = f"Estimate what {'+'.join(targets)} allows"
    return on_demand(_floor_key(view, targets), label, seconds, compute, key=_floor_button(targets))


def want_floors(view: View) -> None:
    """Ask for the floors of the pinned layer, as their buttons do."""
    for targets in floor_targets(view):
        want(_floor_button(targets))


def _floor_button(targets: tuple[str, ...]) -> str:
    return f"reconstruction_floor_{'_'.join(targets)}"


def floor_targets(view: View) -> list[tuple[str, ...]]:
    """Sets of targets to estimate a floor for: the layer's own, then the next larger; none where attention stays."""
    from npt_viz.analysis.class_floor import classes_to_try

    return classes_to_try(opened.opened(view.selection)[1].adapter(view.layer))


def known_floors(view: View) -> list[ClassFloor]:
    """Floors of the pinned layer that are computed, its own shape first."""
    floors = [computed(_floor_key(view, targets)) for targets in floor_targets(view)]
    return [floor for floor in floors if floor] if floors and floors[0] else []


def downstream_of(view: View, text: str, positions: Positions) -> Downstream | None:
    """Predictions of the NPT model against the base; None until they were asked for, where they take long.

    text: 'this prompt' or 'reference text'.
    """
    from npt_viz.analysis.downstream import cost, downstream
    from npt_viz.texts import bundled_texts

    asked = _any_mode(view, positions)
    model, checkpoint = opened.opened(asked.selection)
    texts = [view.run.token_ids] if text == "this prompt" else bundled_texts("heldout")[:REFERENCE_TEXTS]

    def compute(progress) -> Downstream:
        return downstream(
            model, checkpoint, texts, layers=asked.question.layers, positions=positions, progress=progress
        )

    lengths = [len(ids) for ids in texts] if text == "this prompt" else [len(t) // 4 for t in texts]
    seconds = sum(cost(model, view.layers, n) * n for n in lengths) * seconds_per_token(asked.selection)
    place = f"reconstruction_downstream_{positions}"
    return on_demand(
        ("downstream", asked, text), f"Run {text} ({positions} positions)", seconds, compute, key=place
    )


def _any_mode(view: View, positions: str | None = None) -> Asked:
    """Both modes come from one pass, so they share a cache entry."""
    return view.asked.having(mode="local", positions=positions or view.question.positions)


def _floor_key(view: View, targets: tuple[str, ...]) -> tuple:
    return ("floor", view.selection, view.layer, view.question.positions, targets)
