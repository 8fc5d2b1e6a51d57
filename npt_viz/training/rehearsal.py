"""Checks that run before activations are captured: the base fits, and every loss runs on the adapter."""

from functools import cached_property

import torch

from npt_viz.adapter import LayerAdapter, LowRank
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.shapes import Float, Tensor
from npt_viz.training.capturing import LayerTokens
from npt_viz.training.losses import TERMS, Objective
from npt_viz.training.spec import AdapterSpec, why_untrainable
from npt_viz.training.student import student

N_TOKENS = 8


class _RandomTokens(LayerTokens):
    """Random tokens that stand for a text; any directions serve as principal ones."""

    @cached_property
    def principal(self) -> Float[Tensor, "model q"]:
        return torch.eye(self.hidden.shape[1])[:, :1]


def rehearse(model: BaseModel, start: Checkpoint | AdapterSpec, objective: Objective) -> None:
    """Check start and losses on a few random tokens; raises NptVizError where one does not fit."""
    if isinstance(start, AdapterSpec):
        start.fits(model)
        adapters = [start.blank(model, start.layers[0], seed=0)]
    else:
        adapters = [start.adapter(layer) for layer in start.layers]
    for adapter in adapters:
        if not isinstance(start, AdapterSpec):
            if reason := why_untrainable(adapter.semantics):
                raise NptVizError(f"{start.name}, layer {adapter.layer} ({adapter.variant}): {reason}")
            _check_base(model, adapter, start.name)
        _check_losses(model, adapter, objective)


def _check_base(model: BaseModel, adapter: LayerAdapter, name: str) -> None:
    model.parts(adapter.layer)
    modulation = next(iter(adapter.learned.values()))
    reads = modulation.A if isinstance(modulation, LowRank) else modulation.W_down
    if reads.shape[-2] != model.d_model:
        raise NptVizError(
            f"{name} was made for a base of width {reads.shape[-2]}, and {model.name} has {model.d_model}; "
            "open the base model that it was trained on"
        )


def _check_losses(model: BaseModel, adapter: LayerAdapter, objective: Objective) -> None:
    home = adapter.home.device
    generator = torch.Generator().manual_seed(0)
    hidden, attention, mlp_output = (
        torch.randn(N_TOKENS, model.d_model, generator=generator).to(home, model.dtype) for _ in range(3)
    )
    tokens = _RandomTokens(hidden, attention, mlp_output, torch.zeros(N_TOKENS, dtype=torch.bool))
    with model.lock, torch.no_grad():
        rehearsed = student(model, adapter, tokens, tokens)
        for name in objective.active:
            if TERMS[name].needs == "logits":
                continue
            if reason := TERMS[name].unfit(adapter.semantics, adapter.targets):
                raise NptVizError(f"layer {adapter.layer}, loss {name}: {reason}")
            try:
                TERMS[name](rehearsed, objective.form(name))
            except NptVizError as error:
                raise NptVizError(f"layer {adapter.layer}, loss {name}: {error}") from error
