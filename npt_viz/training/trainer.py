"""The trainer: an iterator of steps, which pages draw and commands print."""

import copy
import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import cached_property

import torch

from npt_viz.adapter import LayerAdapter, mlp_trace
from npt_viz.arguments import checked
from npt_viz.checkpoint import Checkpoint
from npt_viz.model.base import BaseModel
from npt_viz.progress import Progress, no_progress
from npt_viz.question import check_positions
from npt_viz.results.training import Alarm, HeldOut, LayerStep, Seen, Severity, Step
from npt_viz.training.alarms import SETTLED, Ending, Watch
from npt_viz.training.batches import Batches
from npt_viz.training.causes import short_warmup
from npt_viz.training.data import Corpus, corpus_of
from npt_viz.training.initialisation import initialise_from_attention
from npt_viz.training.learner import Diverged, Learner, gradients_of
from npt_viz.training.losses import Losses, Objective, objective
from npt_viz.training.measures import evaluated, measured_targets
from npt_viz.training.overlap import joined, openings, seen_in_training
from npt_viz.training.published import initialise_as_published
from npt_viz.training.recipe import FRESH_LOSSES, TOKENS, WINDOW, Recipe
from npt_viz.training.rehearsal import rehearse
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.streams import (
    EVALUATION_CHUNK,
    Batch,
    CapturedStream,
    Captures,
    PropagatedStream,
    Stream,
)
from npt_viz.training.student import Student, student


@checked
def train(
    model: BaseModel,
    checkpoint_or_spec: Checkpoint | AdapterSpec,
    texts: Sequence[str] | Corpus,
    losses: Losses = FRESH_LOSSES,
    *,
    steps: int = Recipe.steps,
    seed: int = Recipe.seed,
    learning_rate: float | int = Recipe.learning_rate,
    warmup: int = Recipe.warmup,
    schedule: str = Recipe.schedule,
    batch_tokens: int = Recipe.batch_tokens,
    accumulate: int = Recipe.accumulate,
    weight_decay: float | int = Recipe.weight_decay,
    clip: float | int = Recipe.clip,
    evaluate_every: int = Recipe.evaluate_every,
    whole_sequences: bool = Recipe.whole_sequences,
    cosines_every: int = Recipe.cosines_every,
    stream: str = Recipe.stream,
    autocast: bool | None = Recipe.autocast,
    positions: str = Recipe.positions,
    tokens: int = TOKENS,
    window: int = WINDOW,
    progress: Progress = no_progress,
    budget: int | None = None,
    captures: Captures | None = None,
) -> "Training":
    """Train adapters on activations captured from the base model; iterate the result for its steps.

    checkpoint_or_spec: a checkpoint is continued on clones of its adapters; a spec starts afresh.
    losses: an Objective, term -> weight, names that all weigh 1, or text like `direct=1,guidance:as_written=2`.
    steps … positions: the fields of Recipe, which says what each of them is.
    tokens, window: of `corpus_of`, for texts that are no Corpus.
    progress: called with the stage and the share of it that is done; may raise to stop the capture.
    budget: bytes of memory for captured activations, beyond which they go to a file; half of what is free by default.
    captures: of earlier trainings on this base; the same text, layers and positions are not captured again.

    Raises NptVizError for unknown losses or settings, losses that the adapter cannot have, text too short to split,
    and a shape or a base that does not fit; Diverged while iterating, where a number is no longer finite.
    """
    recipe = Recipe(
        steps=steps,
        seed=seed,
        learning_rate=learning_rate,
        warmup=warmup,
        schedule=schedule,
        batch_tokens=batch_tokens,
        accumulate=accumulate,
        weight_decay=weight_decay,
        clip=clip,
        evaluate_every=evaluate_every,
        whole_sequences=whole_sequences,
        cosines_every=cosines_every,
        stream=stream,
        autocast=autocast,
        positions=check_positions(positions),
    )
    minimised = objective(losses)
    if not isinstance(texts, Corpus):
        rehearse(model, checkpoint_or_spec, minimised)  # Before the text: what cannot work says so first.
        texts = corpus_of(model, texts, seed=seed, tokens=tokens, window=window)
    return Training(
        model,
        checkpoint_or_spec,
        texts,
        minimised,
        recipe,
        progress=progress,
        budget=budget,
        captures=captures,
    )


class Training(Iterator[Step]):
    """A training in progress: an iterator of steps. To stop, stop iterating; `adapters` are always current.

    It stops by itself where nothing more can come of it; `endings` then say why.

    The base model is read under its lock, a batch at a time, and never changed.
    """

    def __init__(
        self,
        model: BaseModel,
        start: Checkpoint | AdapterSpec,
        texts: Sequence[str] | Corpus,
        losses: Objective,
        recipe: Recipe,
        *,
        progress: Progress = no_progress,
        budget: int | None = None,
        captures: Captures | None = None,
        resumed: Mapping | None = None,
        origin: Mapping[str, str | None] | None = None,
    ) -> None:
        """resumed: `state` of an earlier training of the same start, text, losses and recipe; its `learners` with
        their adapters beside their states (npt_viz.training.state makes it from a file).
        origin: where text and start come from, in words for a checkpoint's recipe."""
        rehearse(model, start, losses)
        self.model, self.start, self.objective, self.recipe = model, start, losses, recipe
        self.layers = tuple(sorted(start.layers))
        self.corpus = texts if isinstance(texts, Corpus) else corpus_of(model, texts, seed=recipe.seed)
        self.learners: dict[int, Learner] = {}
        """Layer -> its adapter in training; layers whose turn has not come are missing."""
        self.done = 0
        """Steps taken."""
        self.is_between_steps = True
        """False inside a step, and after one that did not end: then nothing of the training can be saved."""
        self.origin = dict(origin or {})
        self._finished: dict[int, HeldOut] = {}
        self._watch = self._watching()
        self._seconds = 0.0
        self._over = False
        self._batches = Batches(
            self.corpus.starts,
            recipe.batch_tokens,
            recipe.seed,
            whole=losses.needs_logits or recipe.whole_sequences or recipe.stream == "end_to_end",
        )
        self._settings = {
            "positions": recipe.positions,
            "to_the_top": losses.needs_logits,
            "progress": progress,
            "budget": budget,
        }
        self._captures = captures or Captures(keep=0)
        if resumed is not None:
            self._go_on_from(resumed)
        self._begin_turn()
        if resumed is not None:  # Whoever resumes it wants it to go on, and sees only what is said from here.
            self._watch.begin_again()

    @property
    def adapters(self) -> dict[int, LayerAdapter]:
        """Layer -> the adapter as it is now."""
        return {layer: learner.adapter for layer, learner in self.learners.items()}

    @property
    def initial(self) -> dict[int, LayerAdapter]:
        """Layer -> the adapter before its first step."""
        return {layer: learner.initial for layer, learner in self.learners.items()}

    @property
    def total_steps(self) -> int:
        """Steps of the whole training; layers in order take theirs one after the other."""
        return self.recipe.steps * (len(self.layers) if self.recipe.stream == "in_order" else 1)

    def __next__(self) -> Step:
        if self._over or self.done >= self.total_steps:
            raise StopIteration
        self.is_between_steps = False
        started = time.monotonic()
        own = self.done % self.recipe.steps
        if own == 0 and self.done:
            self._begin_turn()
        rate = learning_rate(own + 1, self.recipe)
        batches = [next(self._batches) for _ in range(self.recipe.accumulate)]
        try:
            layers = self._updated(batches, own, rate)
        except Diverged:
            self._over = True
            raise
        self.done += 1
        last = own + 1 == self.recipe.steps
        heldout = None
        if last or (own + 1) % self.recipe.evaluate_every == 0:
            heldout = self.evaluation()
        if heldout and last:
            self._finished |= heldout
            heldout = dict(self._finished)
        self._seconds += time.monotonic() - started
        step = Step(
            number=self.done,
            learning_rate=rate,
            layers=layers,
            seconds=self._seconds,
            heldout=heldout,
            n_tokens=sum(len(batch.rows) for batch in batches),
        )
        step = replace(step, alarms=self._said_at_first(step) + self._watch.alarms(step))
        if last:
            self._say_what_never_moved(layers)
        if self.has_ended:
            self._over = True
            step = replace(step, heldout=dict(self._finished | (heldout or self.evaluation())))
        self.is_between_steps = True
        return step

    @property
    def finished(self) -> dict[int, HeldOut]:
        """Layer -> its evaluation after its last step; of layers in order, those whose turn is over."""
        return dict(self._finished)

    @property
    def endings(self) -> dict[int, Ending]:
        """Layer -> why nothing more can come of its training; empty as long as something may."""
        return self._watch.endings

    @property
    def has_ended(self) -> bool:
        """Whether the training stopped by itself, because nothing more can come of any layer whose turn it is.

        In order, a layer that has nothing left to learn does not keep those above it from their turn.
        """
        endings = [self.endings.get(layer) for layer in self._turn]
        waits = self.recipe.stream == "in_order" and self._turn[-1] != self.layers[-1]
        return all(ending is not None and not (waits and ending.kind == "nothing left") for ending in endings)

    def _said_at_first(self, step: Step) -> tuple[Alarm, ...]:
        """What has to be said of this training once."""
        if step.number > 1:
            return ()
        said: dict[tuple[str, Severity], str] = {}
        if note := self.heldout_seen.note:
            said["seen_in_training", "warning"] = (
                f"figures on held-out text: {note}; give text that the checkpoint {self.start.name} has not seen"
            )
        if short := short_warmup(self.recipe):
            said["warm-up", "info"] = short
        return tuple(
            Alarm(rule=rule, severity=severity, step=1, layer=min(step.layers), sentence=sentence)
            for (rule, severity), sentence in said.items()
        )

    def _say_what_never_moved(self, layers: Mapping[int, LayerStep]) -> None:
        """End layers that have taken all of their steps with the weights of the start."""
        if self.recipe.steps < SETTLED:
            return
        rates = sum(learning_rate(step, self.recipe) for step in range(1, self.recipe.steps + 1))
        for layer, step in layers.items():
            why = self.learners[layer].why_still(step, rates, self.objective.gradient_scale)
            if why and layer not in self.endings:
                self._watch.end(layer, f"layer {layer} learned nothing: {why}")

    def evaluation(self) -> dict[int, HeldOut]:
        """Evaluation on held-out tokens of every layer that trains now."""
        batches: dict[int, list] = {layer: [] for layer in self._turn}
        now = {layer: self.adapters[layer] for layer in self._turn}
        with torch.no_grad():
            for layer, batch, is_sink in self._stream.heldout_students(now):
                batches[layer].append((batch, is_sink))
        return {layer: evaluated(layer, of_layer) for layer, of_layer in batches.items()}

    def checkpoint(self, name: str = "in training") -> Checkpoint:
        """The adapters as they are now, cloned, for every page and analysis that takes a checkpoint."""
        clones = {layer: copy.deepcopy(a).requires_grad_(False) for layer, a in self.adapters.items()}
        return Checkpoint.from_adapters(clones, self.model, name, recipe=self.described())

    @cached_property
    def heldout_seen(self) -> Seen:
        """Whether the checkpoint that it continues was trained on the text that is held out here."""
        if isinstance(self.start, AdapterSpec):
            return Seen(n_tokens=self.corpus.n_heldout, n_seen=0)
        return seen_in_training(self.start.recipe, self.corpus.heldout)

    def described(self) -> dict:
        """How the adapters were trained, as plain JSON values: for a checkpoint's recipe."""
        return {
            **asdict(self.recipe),
            **asdict(self.objective),
            "as_written": sorted(self.objective.as_written),
            "weights": dict(self.objective.active),
            "steps_taken": self.done,
            "train_tokens": self.corpus.n_train,
            "heldout_tokens": self.corpus.n_heldout,
            "split": self._split,
            **self.origin,
        }

    @cached_property
    def _split(self) -> dict[str, str | None]:
        """Record of the text, with that of the checkpoint it continues."""
        record: dict[str, str | None] = dict(self.corpus.record())
        if not isinstance(self.start, AdapterSpec):
            record["openings"] = joined([openings({"split": record}), openings(self.start.recipe)])
        return record

    @property
    def batches_digest(self) -> str:
        """Digest of the order of batches, past and to come; equal for trainings with equal batches."""
        order = self._batches.order.state
        return hashlib.sha256(b"".join(order[name].numpy().tobytes() for name in sorted(order))).hexdigest()[
            :16
        ]

    @property
    def state(self) -> dict:
        """Progress of this training in plain containers and tensors; without adapters, text and settings."""
        return {
            "done": self.done,
            "seconds": self._seconds,
            "batches": self._batches.order.state,
            "learners": {layer: learner.state for layer, learner in self.learners.items()},
            "finished": {layer: asdict(evaluation) for layer, evaluation in self._finished.items()},
            "watch": self._watch.state,
        }

    def _watching(self, state: dict | None = None) -> Watch:
        return Watch(state, steps=self.recipe.steps, objective=self.objective, recipe=self.recipe)

    def _go_on_from(self, state: Mapping) -> None:
        self.done, self._seconds = state["done"], state["seconds"]
        self._batches.order.state = state["batches"]
        self._watch = self._watching(state["watch"])
        self._finished = {layer: HeldOut(**evaluation) for layer, evaluation in state["finished"].items()}
        for layer, (adapter, initial, remembered) in state["learners"].items():
            self.learners[layer] = Learner(adapter, self.recipe)
            self.learners[layer].initial = initial
            self.learners[layer].state = remembered

    def _begin_turn(self) -> None:
        """Capture what the layers whose turn it is see, and make their adapters."""
        if self.recipe.stream == "in_order":
            turn = min(self.done // self.recipe.steps, len(self.layers) - 1)
            self._turn = self.layers[turn : turn + 1]
        else:
            self._turn = self.layers
        self._stream = self._captured()
        for layer in self._turn:
            if layer not in self.learners:
                self.learners[layer] = Learner(self._adapter(layer), self.recipe)

    def _captured(self) -> Stream:
        below = {layer: a for layer, a in self.adapters.items() if layer < self._turn[0]}
        together = self.recipe.stream == "end_to_end"

        def capture() -> Stream:
            if together:
                return PropagatedStream(self.model, self.corpus, self._turn, **self._settings)
            return CapturedStream(self.model, self.corpus, self._turn, below=below, **self._settings)

        if below and not together:  # Of these very adapters: no other training sees this stream.
            return capture()
        settings = (self.recipe.positions, self.objective.needs_logits)
        return self._captures.stream(
            (id(self.model), together, self._turn, self.corpus.digest(), *settings), capture
        )

    def _adapter(self, layer: int) -> LayerAdapter:
        """A clone of the checkpoint's adapter, or a fresh one of the spec's shape."""
        if not isinstance(self.start, AdapterSpec):
            return copy.deepcopy(self.start.adapter(layer))
        seed = self.recipe.seed * 1000 + layer
        device = self.model.parts(layer).norm_weight.device
        adapter = self.start.blank(self.model, layer, seed=seed).to(device)
        if self.start.initialisation != "attention":
            initialise_as_published(adapter, self.start.initialisation, seed=seed)
            return adapter
        tokens = self._stream.train.layers[layer]
        ordinary = tokens.rows((~tokens.is_sink).nonzero()[: 8 * EVALUATION_CHUNK, 0])
        with self.model.lock, torch.no_grad():
            of_start = student(self.model, adapter, ordinary.rows(slice(0, EVALUATION_CHUNK)))
            intermediate = mlp_trace(of_start.mlp, of_start.mlp_input.to(self.model.dtype)).intermediate
        initialise_from_attention(
            adapter,
            ordinary.attention.to(of_start.attention),
            of_start.mlp_input,
            intermediate.to(of_start.attention),
            seed=seed,
        )
        return adapter

    def _updated(self, batches: Sequence[Batch], own: int, rate: float) -> dict[int, LayerStep]:
        """One update of every layer whose turn it is, `own` steps after its first."""
        weights = self.objective.weights_after(own)
        cosines = own % self.recipe.cosines_every == 0
        together = self.recipe.stream == "end_to_end"
        updated = {}
        for group in [self._turn] if together else [(layer,) for layer in self._turn]:
            gradients, targets = [], {}
            for batch in batches:
                with self.model.lock, torch.enable_grad():
                    students = self._students(group, batch, own)
                    gradients.append(gradients_of(self.objective, students, shared_ending=together))
                    targets = {layer: measured_targets(one) for layer, one in students.items()}
            for layer in group:
                step = self.learners[layer].update(
                    self.objective, weights, [one[layer] for one in gradients], rate, cosines=cosines
                )
                updated[layer] = replace(step, targets=targets[layer])
        return updated

    def _students(self, group: Sequence[int], batch: Batch, own: int) -> dict[int, Student]:
        """One batch through the layers of a group, without the tokens that the curriculum holds back."""
        with self._autocast(group[0]):
            students = self._stream.students({layer: self.adapters[layer] for layer in group}, batch)
        curriculum = self.objective.curriculum
        if curriculum is None or curriculum.quantile(own) == 1.0:
            return students
        return {layer: one.where(curriculum.mask(one.attention, own)) for layer, one in students.items()}

    def _autocast(self, layer: int) -> AbstractContextManager:
        device = self.adapters[layer].home.device.type
        wanted = device == "cuda" if self.recipe.autocast is None else self.recipe.autocast
        return torch.autocast(device, torch.bfloat16, enabled=wanted)


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine from the peak to a hundredth of it at the last step, or the peak."""
    if step <= recipe.warmup:
        return recipe.learning_rate * step / recipe.warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
