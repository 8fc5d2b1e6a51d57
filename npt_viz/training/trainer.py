"""The trainer: an iterator of steps. It yields what happened; pages draw, commands print, tests assert."""

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence

import torch

from npt_viz.adapter import LayerAdapter, mlp_trace
from npt_viz.capture.inspection import scalars_of
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.results.training import HeldOut, LayerStep, Step
from npt_viz.training.data import (
    Corpus,
    adapter_device,
    captured,
    corpus_of,
    student,
    token_batches,
)
from npt_viz.training.initialisation import initialise_from_attention
from npt_viz.training.losses import TERMS, checked
from npt_viz.training.spec import AdapterSpec, Recipe

EVALUATION_CHUNK = 2048
"""Tokens at a time when a layer is evaluated."""


def train(
    model: BaseModel,
    checkpoint_or_spec: Checkpoint | AdapterSpec,
    texts: Sequence[str] | Corpus,
    losses: Mapping[str, float] | Sequence[str] = ("direct",),
    *,
    steps: int,
    seed: int = 0,
    **recipe,
) -> "Training":
    """Train adapters on activations captured once from the base model; iterate the result for its steps.

    checkpoint_or_spec: a checkpoint is continued on clones of its adapters; a spec starts afresh.
    losses: term -> weight, or names that all weigh 1.
    recipe: the other fields of Recipe.

    Raises NptVizError for unknown losses or settings, text too short to split, a shape the model cannot hold.
    """
    weights = dict(losses) if isinstance(losses, Mapping) else dict.fromkeys(losses, 1.0)
    return Training(
        model, checkpoint_or_spec, texts, checked(weights), Recipe(steps=steps, seed=seed, **recipe)
    )


class Training(Iterator[Step]):
    """A training in progress. Stopping is to stop iterating; `adapters` are always the newest.

    The base model is read under its lock, a step at a time, and never changed.
    """

    def __init__(
        self,
        model: BaseModel,
        start: Checkpoint | AdapterSpec,
        texts: Sequence[str] | Corpus,
        losses: Mapping[str, float],
        recipe: Recipe,
    ) -> None:
        self.model, self.losses, self.recipe = model, losses, recipe
        if isinstance(start, AdapterSpec):
            start.fits(model)
        self.corpus = texts if isinstance(texts, Corpus) else corpus_of(model, texts, seed=recipe.seed)
        layers = sorted(start.layers)
        self._train = captured(model, self.corpus.train, layers, positions=recipe.positions)
        self._heldout = captured(model, self.corpus.heldout, layers, positions=recipe.positions)
        self.adapters = {layer: self._adapter(start, layer) for layer in layers}
        self.initial = copy.deepcopy(self.adapters)
        self._optimisers = {
            layer: torch.optim.AdamW(
                adapter.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
            )
            for layer, adapter in self.adapters.items()
        }
        self._batches = token_batches(self.corpus.n_train, recipe.batch_tokens, recipe.seed)
        self._started = time.monotonic()
        self.done = 0

    def __next__(self) -> Step:
        if self.done >= self.recipe.steps:
            raise StopIteration
        self.done += 1
        rate = learning_rate(self.done, self.recipe)
        index = next(self._batches)
        layers = {layer: self._step(layer, index, rate) for layer in self.adapters}
        last = self.done == self.recipe.steps
        evaluated = self.evaluation() if last or self.done % self.recipe.evaluate_every == 0 else None
        return Step(
            number=self.done,
            learning_rate=rate,
            layers=layers,
            seconds=time.monotonic() - self._started,
            heldout=evaluated,
        )

    def evaluation(self) -> dict[int, HeldOut]:
        """Every layer on the held-out tokens."""
        return {layer: self._evaluated(layer) for layer in self.adapters}

    def checkpoint(self, name: str = "in training") -> Checkpoint:
        """The adapters as they are now, cloned, for every page and analysis that takes a checkpoint."""
        clones = {layer: copy.deepcopy(a).requires_grad_(False) for layer, a in self.adapters.items()}
        return Checkpoint.from_adapters(clones, self.model, name)

    def _adapter(self, start: Checkpoint | AdapterSpec, layer: int) -> LayerAdapter:
        device = self.model.parts(layer).mlp_norm.weight.device
        if not isinstance(start, AdapterSpec):
            return copy.deepcopy(start.adapter(layer)).to(device).requires_grad_(True)
        adapter = start.blank(self.model, layer, seed=self.recipe.seed * 1000 + layer).to(device)
        tokens = self._train[layer]
        ordinary = tokens.rows(~tokens.is_sink)
        sample = ordinary.rows(slice(0, 8 * EVALUATION_CHUNK))
        seen = student(self.model, adapter, sample.rows(slice(0, EVALUATION_CHUNK)))
        intermediate = mlp_trace(seen.mlp, seen.mlp_input.to(self.model.dtype)).intermediate.float()
        initialise_from_attention(
            adapter,
            sample.attention.to(device),
            seen.mlp_input,
            intermediate,
            seed=self.recipe.seed * 1000 + layer,
        )
        return adapter

    def _step(self, layer: int, index: torch.Tensor, rate: float) -> LayerStep:
        adapter, optimiser = self.adapters[layer], self._optimisers[layer]
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        with self.model.lock, torch.enable_grad():
            seen = student(self.model, adapter, self._train[layer].rows(index))
            terms = {name: TERMS[name](seen) for name in self.losses}
            total = sum(weight * terms[name] for name, weight in self.losses.items())
            total.backward()
        norm = torch.nn.utils.clip_grad_norm_(adapter.parameters(), self.recipe.clip)
        if not torch.isfinite(norm):
            raise NptVizError(
                f"step {self.done}: the gradient of layer {layer} is not finite "
                f"({', '.join(f'{n} = {t.item():.3g}' for n, t in terms.items())}); lower the learning rate "
                f"{self.recipe.learning_rate:g} or the weight of the term that grew"
            )
        optimiser.step()
        return LayerStep(
            terms={name: term.item() for name, term in terms.items()},
            total=total.item(),
            grad_norm=norm.item(),
        )

    @torch.no_grad()
    def _evaluated(self, layer: int) -> HeldOut:
        adapter, tokens = self.adapters[layer], self._heldout[layer]
        recovered, relative, scalars = [], [], []
        for start in range(0, len(tokens), EVALUATION_CHUNK):
            with self.model.lock:
                seen = student(self.model, adapter, tokens.rows(slice(start, start + EVALUATION_CHUNK)))
            error = (seen.output - seen.target).norm(dim=-1)
            nothing = (seen.unmodulated - seen.target).norm(dim=-1)
            recovered.append(1 - (error / nothing) ** 2)
            relative.append(error / seen.target.norm(dim=-1))
            scalars.append(_first_scalar(adapter, seen))
        recovered, relative, scalars = (torch.cat(parts).cpu() for parts in (recovered, relative, scalars))
        keep = ~tokens.is_sink.cpu()
        return HeldOut(
            layer=layer,
            recovered=recovered[keep].nanmedian().item(),
            relative_error=relative[keep].nanmedian().item(),
            sink_recovered=recovered[~keep].nanmedian().item() if (~keep).any() else math.nan,
            scalar_mean=scalars[keep].mean().item(),
            scalar_std=scalars[keep].std().item(),
            n_tokens=int(keep.sum()),
        )


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine from the peak to a hundredth of it at the last step."""
    if step <= recipe.warmup:
        return recipe.learning_rate * step / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def _first_scalar(adapter: LayerAdapter, seen) -> torch.Tensor:
    target, modulation = next(iter(adapter.modulations.items()))
    if modulation.components == 0 or target == "down":
        return torch.full((len(seen.output),), torch.nan, device=adapter_device(adapter))
    return scalars_of(modulation, seen.attention, seen.mlp_input)[:, 0]
