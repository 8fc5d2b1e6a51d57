"""Adapter and optimiser state of one layer in training, and the gradients of its losses."""

import copy
import math
from collections.abc import Mapping, Sequence
from functools import reduce

import torch

from npt_viz.adapter import LayerAdapter
from npt_viz.errors import NptVizError
from npt_viz.results.training import LayerStep
from npt_viz.shapes import Tensor
from npt_viz.training import causes
from npt_viz.training.losses import TERMS, AdaptiveWeights, Objective
from npt_viz.training.measures import gradient_cosines
from npt_viz.training.recipe import Recipe
from npt_viz.training.step_sizes import step_groups
from npt_viz.training.student import Student

TermGradients = dict[str, list[Tensor]]
"""Loss -> its gradient with respect to every parameter of one adapter."""


class Diverged(NptVizError):
    """A loss or its gradient is no longer finite; the adapter is back where it was still good."""


def gradients_of(
    objective: Objective, students: Mapping[int, Student], *, shared_ending: bool
) -> dict[int, tuple[dict[str, float], TermGradients]]:
    """Layer -> the raw value and the gradient of every active loss on one batch.

    shared_ending: the layers ran together, so a loss on logits is one number that belongs to all of them.
    """
    parameters = {layer: list(student.adapter.parameters()) for layer, student in students.items()}
    flat = [p for of_layer in parameters.values() for p in of_layer]
    by_layer = {layer: ({}, {}) for layer in students}
    names = list(objective.active)
    for name in names:
        term, form = TERMS[name], objective.form(name)
        if shared_ending and term.needs == "logits":
            values = dict.fromkeys(students, term(next(iter(students.values())), form))
            total = next(iter(values.values()))
        else:
            values = {layer: term(student, form) for layer, student in students.items()}
            total = reduce(torch.add, values.values())
        if total.requires_grad:
            whole = list(
                torch.autograd.grad(total, flat, retain_graph=name != names[-1], materialize_grads=True)
            )
        else:
            whole = [torch.zeros_like(p) for p in flat]
        for layer, of_layer in parameters.items():
            by_layer[layer][0][name] = values[layer].item()
            by_layer[layer][1][name], whole = whole[: len(of_layer)], whole[len(of_layer) :]
    return by_layer


class Learner:
    """Adapter and optimiser of one layer in training."""

    def __init__(self, adapter: LayerAdapter, recipe: Recipe) -> None:
        self.adapter = adapter
        self.initial = copy.deepcopy(adapter).requires_grad_(False)
        """As it was before the first step."""
        self._recipe = recipe
        self._parameters = list(adapter.requires_grad_(True).parameters())
        self._optimiser = torch.optim.AdamW(
            [{"params": group, "share": share} for share, group in step_groups(adapter).items()],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            # One pass over the parameters; the loop that torch takes on a CPU is a fifth of a local step.
            fused=self._parameters[0].device.type in ("cpu", "cuda"),
        )
        self._adaptive = AdaptiveWeights()
        self._before: list[Tensor] | None = None

    def update(
        self,
        objective: Objective,
        weights: Mapping[str, float],
        batches: Sequence[tuple[dict[str, float], TermGradients]],
        rate: float,
        *,
        cosines: bool,
    ) -> LayerStep:
        """One step of the optimiser on the mean over `batches` of the results of gradients_of."""
        terms = {name: sum(values[name] for values, _ in batches) / len(batches) for name in weights}
        gradients = {name: _mean([gradient_of[name] for _, gradient_of in batches]) for name in weights}
        norms = {name: _norm(gradient) for name, gradient in gradients.items()}
        self._refuse_non_finite(terms, norms, weights)
        if objective.adaptive == "gradient_norms":
            adaptive = self._adaptive.updated(norms)
            weights = {name: weight * adaptive[name] for name, weight in weights.items()}
        factors = [objective.gradient_scale * weight for weight in weights.values()]
        for parameter, *parts in zip(self._parameters, *(gradients[name] for name in weights), strict=True):
            # Into the parameter's own layout: gradients of several components come with their axes permuted, and the
            # fused optimiser reads parameter and gradient side by side as they lie in memory.
            parameter.grad = torch.empty_like(parameter, requires_grad=False)
            torch.mul(parts[0], factors[0], out=parameter.grad)
            for part, factor in zip(parts[1:], factors[1:], strict=True):
                parameter.grad.add_(part, alpha=factor)
        grad_norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._recipe.clip).item()
        if not math.isfinite(grad_norm):  # Clipping has made it 0 or NaN, with which nothing is learned.
            factor = causes.largest_factor(weights, objective.gradient_scale)
            raise Diverged(
                f"the gradient of layer {self.adapter.layer} is {grad_norm} with the {factor}, and finite without: training "
                "stopped before the step; lower that factor"
            )
        self._keep()
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self._optimiser.step()
        return LayerStep(
            terms=terms,
            total=sum(weight * terms[name] for name, weight in weights.items()),
            grad_norm=grad_norm,
            weights=dict(weights),
            grad_norms=norms,
            cosines=gradient_cosines(list(gradients.values())) if cosines and len(gradients) > 1 else None,
        )

    def _refuse_non_finite(
        self, terms: Mapping[str, float], norms: Mapping[str, float], weights: Mapping[str, float]
    ) -> None:
        for what, numbers in (("", terms), ("the gradient of ", norms)):
            for name, number in numbers.items():
                if math.isfinite(number):
                    continue
                grown = self.grown
                self._undo()
                taken = bool(self._optimiser.state)
                why = causes.not_finite(self._recipe, name, losses=weights, taken=taken, grown=grown)
                stopped = "training stopped with the adapter as it was one step earlier; " if taken else ""
                raise Diverged(f"{what}loss {name} of layer {self.adapter.layer} is {number}: {stopped}{why}")

    @property
    def grown(self) -> float:
        """Norm of all weights over that at the start; NaN where that is 0."""
        before = _norm(list(self.initial.parameters()))
        return _norm(self._parameters) / before if before else math.nan

    @torch.no_grad()
    def why_still(self, step: LayerStep, rates: float, gradient_scale: float) -> str:
        """Why its weights did not move in a whole training, in words; empty where they moved.

        step: the last. rates: sum of the step sizes of all steps.
        """
        before = list(self.initial.parameters())
        change = _norm([now - old for now, old in zip(self._parameters, before, strict=True)])
        start, n_weights = _norm(before), sum(each.numel() for each in before)
        return causes.still(
            self._recipe,
            moved=change / start if start else math.inf,
            change=change / math.sqrt(n_weights),
            rates=rates,
            grad_norm=step.grad_norm,
            n_weights=n_weights,
            losses=step.weights,
            gradient_scale=gradient_scale,
        )

    @torch.no_grad()
    def _keep(self) -> None:
        if self._before is None:
            self._before = [parameter.detach().clone() for parameter in self._parameters]
        else:
            _copy(self._parameters, self._before)

    @torch.no_grad()
    def _undo(self) -> None:
        """Restore the parameters before the last update, which gave finite losses."""
        if self._before is not None:
            _copy(self._before, self._parameters)

    @property
    def state(self) -> dict:
        """Optimiser and adaptive weights, in plain containers and tensors; the adapter is not included."""
        return {"optimiser": self._optimiser.state_dict(), "adaptive": dict(self._adaptive.averages)}

    @state.setter
    def state(self, state: Mapping) -> None:
        # A copy: torch would go on using the very tensors.
        self._optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        self._adaptive.averages = dict(state["adaptive"])


def _mean(gradients: Sequence[list[Tensor]]) -> list[Tensor]:
    if len(gradients) == 1:
        return gradients[0]
    return [torch.stack(parts).mean(0) for parts in zip(*gradients, strict=True)]


def _norm(gradient: Sequence[Tensor]) -> float:
    return torch.nn.utils.get_total_norm(gradient).item()


def _copy(source: Sequence[Tensor], destination: Sequence[Tensor]) -> None:
    for old, new in zip(destination, source, strict=True):
        old.copy_(new)
