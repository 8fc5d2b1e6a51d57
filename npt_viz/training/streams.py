"""Inputs of NPT layers in training: activations of the base, or the stream that trained layers below make."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch

from npt_viz.adapter import LayerAdapter, stream_keeps_attention
from npt_viz.capture.layer_trace import mlp_input_of
from npt_viz.model.base import BaseModel
from npt_viz.progress import Progress, no_progress
from npt_viz.question import Positions
from npt_viz.shapes import Hidden, Int, Tensor
from npt_viz.training.above import LayersAbove
from npt_viz.training.capturing import Capture, captured, corrected
from npt_viz.training.data import Corpus
from npt_viz.training.student import Student, student

EVALUATION_CHUNK = 2048
"""Tokens at a time when a layer is evaluated."""

Adapters = Mapping[int, LayerAdapter]


class Batch(NamedTuple):
    """Some tokens of the captured text."""

    rows: Int[Tensor, "token"]
    lengths: tuple[int, ...] | None = None
    """Of the whole sequences that the rows are, one after the other; None where they are single tokens."""


class CapturedStream:
    """Layers trained independently, each on activations captured once.

    below: NPT layers that run below them; the captured layers then learn to bring the stream back to the base's.
    """

    def __init__(
        self,
        model: BaseModel,
        corpus: Corpus,
        layers: Sequence[int],
        *,
        positions: Positions,
        to_the_top: bool,
        below: Adapters | None = None,
        progress: Progress = no_progress,
        budget: int | None = None,
    ) -> None:
        self.model = model

        def captures(sequences, to_the_top: bool, share: float, start: float) -> tuple[Capture, Capture]:
            def part_progress(stage: str, fraction: float | None = None) -> None:
                progress(stage, start + share * (fraction or 0))

            capture = partial(
                captured, model, sequences, layers, positions=positions, budget=budget, progress=part_progress
            )
            # Held-out text is read rarely; the training text at every step.
            often = sequences is corpus.train
            base = capture(to_the_top=to_the_top, projections=often and not below)
            if not below:
                return base, base
            return capture(changed=below, base=base, projections=often), base

        share = corpus.n_heldout / (corpus.n_train + corpus.n_heldout)
        self.train, self.base = captures(corpus.train, to_the_top, 1 - share, 0.0)
        self.heldout, _ = captures(corpus.heldout, False, share, 1 - share)
        self._above = LayersAbove(model, self.base.arguments)

    def students(self, adapters: Adapters, batch: Batch) -> dict[int, Student]:
        """One batch through each of the layers; the caller holds the model's lock."""
        return {layer: self._student(adapter, batch) for layer, adapter in adapters.items()}

    def heldout_students(self, adapters: Adapters) -> Iterator[tuple[int, Student, Tensor]]:
        """(layer, batch, mask of its sinks) until every layer has seen all held-out text."""
        for layer, adapter in adapters.items():
            tokens = self.heldout.layers[layer]
            for start in range(0, len(tokens), EVALUATION_CHUNK):
                part = tokens.rows(slice(start, start + EVALUATION_CHUNK))
                with self.model.lock:
                    on_part = student(self.model, adapter, part, self.train.layers[layer])
                yield layer, on_part, part.is_sink

    def _student(self, adapter: LayerAdapter, batch: Batch) -> Student:
        tokens = self.train.layers[adapter.layer]
        without_ending = student(self.model, adapter, tokens.rows(batch.rows), tokens)
        if self.base.final is None or batch.lengths is None:
            return without_ending
        stream = without_ending.hidden.to(without_ending.trace.output.dtype) + without_ending.trace.output
        if stream_keeps_attention(adapter.attention):
            stream = stream + without_ending.attention.to(stream)
        final = self._above.final_of_rows(adapter.layer + 1, stream.to(self.model.dtype), batch.lengths)
        return without_ending.having(self._above.ending(final, self.base.final[batch.rows]))


class PropagatedStream:
    """Layers trained end to end, each on the stream that the trained layers below it make.

    A loss that is local to a layer trains that layer alone, on the stream as it finds it; a loss on logits trains
    every layer.
    """

    def __init__(
        self,
        model: BaseModel,
        corpus: Corpus,
        layers: Sequence[int],
        *,
        positions: Positions,
        to_the_top: bool,
        progress: Progress = no_progress,
        budget: int | None = None,
    ) -> None:
        self.model, self.to_the_top = model, to_the_top
        capture = partial(captured, model, layers=layers, positions=positions, budget=budget, to_the_top=True)
        self.train = capture(corpus.train, progress=progress)
        self.heldout = capture(corpus.heldout)
        self._above = {text: LayersAbove(model, text.arguments) for text in (self.train, self.heldout)}

    def students(self, adapters: Adapters, batch: Batch) -> dict[int, Student]:
        """One batch of sequences through all the layers in order; the caller holds the model's lock."""
        return self._run(adapters, self.train, batch, ending=self.to_the_top)

    def heldout_students(self, adapters: Adapters) -> Iterator[tuple[int, Student, Tensor]]:
        """(layer, batch, mask of its sinks) until every layer has seen all held-out text."""
        starts = self.heldout.starts
        for i in range(len(starts) - 1):
            batch = Batch(torch.arange(starts[i], starts[i + 1]), (starts[i + 1] - starts[i],))
            with self.model.lock:
                students = self._run(adapters, self.heldout, batch, ending=False)
            for layer, student_of_layer in students.items():
                yield layer, student_of_layer, self.heldout.layers[layer].is_sink[batch.rows]

    def _run(self, adapters: Adapters, text: Capture, batch: Batch, *, ending: bool) -> dict[int, Student]:
        above = self._above[text]
        rows, groups = _by_length(batch)
        lowest = text.layers[min(adapters)]
        finals, inputs = [], {layer: [] for layer in adapters}
        # Without a loss on logits nothing flows from one layer to the next.
        with nullcontext() if ending else torch.no_grad():
            for members, length in groups:
                stream = (
                    lowest.hidden[members].unflatten(0, (-1, length)).to(self.model.device, self.model.dtype)
                )
                stream = self._through(adapters, above, stream, inputs, ending)
                if ending:
                    finals.append(self.model.final_norm(stream).flatten(0, 1))
        students = {}
        for layer, adapter in adapters.items():
            hidden, attention = (torch.cat(parts) for parts in zip(*inputs[layer], strict=True))
            tokens = corrected(text.layers[layer].rows(rows), hidden, attention)
            students[layer] = student(self.model, adapter, tokens, self.train.layers[layer])
        if ending:
            shared = above.ending(torch.cat(finals), text.final[rows])
            students = {layer: one.having(shared) for layer, one in students.items()}
        return students

    def _through(
        self, adapters: Adapters, above: LayersAbove, stream: Hidden, inputs: dict, ending: bool
    ) -> Hidden:
        """The stream after the last layer that has to run; what each NPT layer saw goes to `inputs`."""
        for layer in range(min(adapters), self.model.n_layers):
            if layer not in adapters:
                stream = above.layer(layer, stream)
                continue
            adapter, parts = adapters[layer], self.model.parts(layer)
            attention = above.attention(layer, stream)
            inputs[layer].append((stream.detach().flatten(0, 1), attention.detach().flatten(0, 1)))
            if layer == max(adapters) and not ending:
                break
            mlp_input = mlp_input_of(parts, stream, attention, adapter.attention)
            stream = stream + adapter.mlp(parts.mlp, attention, mlp_input).output
            if stream_keeps_attention(adapter.attention):
                stream = stream + attention
        return stream


Stream = CapturedStream | PropagatedStream


class Captures:
    """The streams captured last, kept for the next training on the same text.

    Shared by trainings of one base model; safe from several threads.
    """

    def __init__(self, keep: int = 2) -> None:
        self._keep = keep
        self._streams: OrderedDict[tuple, Stream] = OrderedDict()
        self._lock = threading.Lock()

    def stream(self, key: tuple, make: Callable[[], Stream]) -> Stream:
        """The stream kept under this key, or a new one from `make`."""
        with self._lock:
            if key in self._streams:
                self._streams.move_to_end(key)
                return self._streams[key]
        stream = make()
        with self._lock:
            self._streams[key] = stream
            while len(self._streams) > self._keep:
                self._streams.popitem(last=False)
        return stream


def _by_length(batch: Batch) -> tuple[Tensor, list[tuple[Tensor, int]]]:
    """The rows ordered by the length of their sequences, and those of each length."""
    assert batch.lengths is not None, "only whole sequences run through several layers"
    groups = []
    pieces = batch.rows.split(list(batch.lengths))
    for length in sorted(set(batch.lengths)):
        members = [piece for piece, n in zip(pieces, batch.lengths, strict=True) if n == length]
        groups.append((torch.cat(members), length))
    return torch.cat([rows for rows, _ in groups]), groups
