"""A scan from beginning to end: parts that are missing are measured, those that are there are taken, all are merged in order."""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from npt_viz.arguments import checked
from npt_viz.capture.inspection import adapters_of, pooling_notes
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.editing.making.from_source import checkpoint_fingerprint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import display_token
from npt_viz.places import shown
from npt_viz.progress import Progress, no_progress
from npt_viz.results.scan import Context, ScanResult
from npt_viz.results.words import counted
from npt_viz.scanning.corpus import Corpus, Reader, as_corpus
from npt_viz.scanning.executor import Executor, InProcess
from npt_viz.scanning.folder import ScanFolder, read_scan
from npt_viz.scanning.measuring import BATCH_TOKENS, Measurer, Task
from npt_viz.scanning.summary import Kept, Merged, numbers_of
from npt_viz.scanning.windows import LEAST, PART_TOKENS, Part, parts

WINDOW = 512
"""Tokens of a window."""

TOP = 10
"""Worst tokens that are kept of every number."""


@dataclass(frozen=True)
class ScanStep:
    """A part is done."""

    n_parts: int
    """Done, with those that were there before."""
    n_tokens: int
    """In them."""
    fraction: float
    """Of the corpus, or of the tokens that were asked for."""
    tokens_per_second: float
    """Measured since the scan began; NaN while only parts are taken that were there."""
    result: Callable[[], ScanResult]
    """What is known so far: of all parts without a gap from the first on."""

    @property
    def line(self) -> str:
        """How far it is, in words."""
        rate = f", {self.tokens_per_second:,.0f} tokens/s" if np.isfinite(self.tokens_per_second) else ""
        return f"{self.n_tokens:,} tokens in {counted(self.n_parts, 'part')}{rate}"


@checked
def scan(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    corpus: Corpus | str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    progress: Progress = no_progress,
    **settings: Any,
) -> ScanResult:
    """What holds over a corpus: every number of `inspect` for every token, as means, quantiles and worst tokens.

    corpus: a file, folder or pattern, several of them, or a Corpus; `sample` is the text that comes with npt_viz.
    out: folder that keeps the parts; the same call goes on where it was stopped or killed. None keeps nothing.
    settings: those of `scan_steps`.
    progress: called after every part with the rate and the share done; may raise to stop.
    Raises NptVizError for a corpus that cannot be read, a folder that belongs to another scan, and settings that make
    no sense; NotFiniteError where the base or an adapter overflows.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="npt_viz-scan-") as folder:
            found = scan(model, checkpoint, corpus, out=Path(folder) / "scan", progress=progress, **settings)
            return replace(found, folder="")
    step = None
    for step in scan_steps(model, checkpoint, corpus, out, **settings):
        progress(step.line, step.fraction)
    return read_scan(out) if step is None else step.result()


@checked
def scan_steps(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    corpus: Corpus | str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    field: str | None = None,
    layers: Sequence[int] | None = None,
    mode: str = "local",
    positions: str = "deployed",
    predict: bool = True,
    window: int | None = None,
    max_tokens: int | None = None,
    top: int = TOP,
    part_tokens: int = PART_TOKENS,
    batch_tokens: int = BATCH_TOKENS,
    executor: Callable[[Measurer], Executor] = InProcess,
) -> Iterator[ScanStep]:
    """Scan part by part into a folder; closing it stops after the part that is being measured, and keeps what is done.

    field: of JSON lines and tables; `text`, or what the Corpus says.
    predict: also KL, NLL and agreement of the running NPT model; without them layers above the last NPT layer do not run.
    window: tokens of a text that are evaluated together; what follows begins anew at position 0. 512 by default, or what
        the model holds.
    max_tokens: end after so many.
    top: worst tokens that are kept of every number.
    part_tokens: a part ends with the text that reaches so many. batch_tokens: of one pass.
    executor: who measures; makes an Executor for a Measurer.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    window = min(WINDOW, model.context_length) if window is None else window
    _check(
        model,
        window=window,
        max_tokens=max_tokens,
        top=top,
        part_tokens=part_tokens,
        batch_tokens=batch_tokens,
    )
    adapters = adapters_of(checkpoint, layers)
    task = Task(
        layers=tuple(adapters),
        mode=mode,  # pyright: ignore[reportArgumentType]
        positions=positions,  # pyright: ignore[reportArgumentType]
        predict=predict,
        top=top,
        batch_tokens=batch_tokens,
    )
    read = as_corpus(corpus, **({} if field is None else {"field": field}))
    reader = Reader(read)
    folder = ScanFolder(out)
    spec = {
        "corpus": [{"file": file.path.name, "bytes": file.bytes} for file in reader.files],
        "field": read.field,
        "split": read.split,
        "model": model.name,
        "base": model.fingerprint(task.layers),
        "dtype": str(model.dtype).removeprefix("torch."),
        "checkpoint": checkpoint.name,
        "adapters": checkpoint_fingerprint(checkpoint, task.layers),
        "layers": list(task.layers),
        "mode": task.mode,
        "positions": task.positions,
        "predict": predict,
        "window": window,
        "max_tokens": max_tokens,
        "top": top,
        "part_tokens": part_tokens,
        "batch_tokens": batch_tokens,
    }
    measurer = Measurer(model, adapters, task)
    cut = parts(model, reader, window=window, max_tokens=max_tokens, part_tokens=part_tokens)
    with ExitStack() as stack:
        stack.callback(folder.begin(spec).release)
        running = _Running(folder, measurer, checkpoint.name, reader, spec, pooling_notes(adapters))
        yield from running.steps(cut, executor(measurer))
        folder.write_result(running.result(is_finished=True))


class _Running:
    """A scan that is going on."""

    def __init__(
        self,
        folder: ScanFolder,
        measurer: Measurer,
        checkpoint: str,
        reader: Reader,
        spec: dict,
        notes: Sequence[str],
    ) -> None:
        self._folder, self._measurer, self._checkpoint = folder, measurer, checkpoint
        self._reader, self._spec, self._notes = reader, spec, tuple(notes)
        self._merged = Merged(measurer.quantities, measurer.task.top)
        self._n_parts = self._n_tokens = self._measured = 0
        self._fraction = 0.0
        self._is_finished = False
        self._began: float | None = None

    def steps(self, cut: Iterator[Part], executor: Executor) -> Iterator[ScanStep]:
        """A step for every part; those that the folder has are not measured again."""
        known: dict[int, str] = {}
        # Those that are there from the first on come one by one, so that their windows need not wait in memory.
        first: list[Part] = []
        for part in cut:
            if not self._folder.has(part.number):
                first.append(part)
                break
            known[part.number] = part.digest
            self._count(part.n_tokens, part.read)
            self._merge(known)
            yield self._step()
        taken: list[tuple[int, float]] = []

        def missing() -> Iterator[Part]:
            for part in chain(first, cut):
                known[part.number] = part.digest
                if self._folder.has(part.number):
                    taken.append((part.n_tokens, part.read))
                else:
                    self._began = self._began or time.monotonic()
                    yield part

        for done in executor.run(missing()):
            self._folder.write_part(done.part.number, done.content)
            self._measured += done.part.n_tokens
            for n_tokens, read in [*taken, (done.part.n_tokens, done.part.read)]:
                self._count(n_tokens, read)
            taken.clear()
            self._merge(known)
            yield self._step()
        for n_tokens, read in taken:
            self._count(n_tokens, read)
        self._merge(known)
        if not self._n_parts:
            raise NptVizError(
                f"{', '.join(shown(path) for path in self._reader.corpus.paths)}: no text of at least {LEAST} tokens; give a "
                "corpus with text in it"
            )
        self._is_finished = True
        if taken or not self._measured:
            yield self._step()

    def result(self, *, is_finished: bool | None = None) -> ScanResult:
        """What the merged parts say."""
        total = self._merged.total
        if total is None:
            raise NptVizError(
                "the first part of this scan is not measured yet; ask again after the next part"
            )
        finished = self._is_finished if is_finished is None else is_finished
        tokenizer = self._measurer.model.tokenizer
        return ScanResult(
            model=self._measurer.model.name,
            checkpoint=self._checkpoint,
            mode=self._measurer.task.mode,
            positions=self._measurer.task.positions,
            layers=self._measurer.task.layers,
            corpus=tuple(each["file"] for each in self._spec["corpus"]),
            window=self._spec["window"],
            max_tokens=self._spec["max_tokens"],
            n_tokens=total.n_tokens,
            n_sinks=total.n_sinks,
            n_windows=total.n_windows,
            n_texts=total.n_texts,
            n_parts=self._merged.n_parts,
            skipped={**self._reader.skipped, "windows of one token": total.n_short},
            is_finished=finished,
            digest=hashlib.sha256(" ".join(self._merged.digests).encode()).hexdigest()[:16],
            quantities=self._measurer.quantities,
            **numbers_of(total),
            contexts={number: _context(tokenizer, kept) for number, kept in sorted(total.kept.items())},
            notes=self._notes,
            folder=str(self._folder.path),
        )

    def _count(self, n_tokens: int, read: float) -> None:
        self._n_parts += 1
        self._n_tokens += n_tokens
        asked = self._spec["max_tokens"]
        share = self._n_tokens / asked if asked else 0.0
        self._fraction = min(1.0, max(self._fraction, read, share))

    def _merge(self, known: dict[int, str]) -> None:
        """Take in every part that is next and there."""
        while (number := self._merged.n_parts) in known and self._folder.has(number):
            summary = self._folder.summary(number, len(self._measurer.quantities))
            if summary.digest != known[number]:
                raise NptVizError(
                    f"{shown(self._folder.part_file(number))} was measured on other tokens than the corpus has now: the "
                    "corpus or the tokenizer has changed; scan into another folder"
                )
            self._merged.add(summary)
            del known[number]

    def _step(self) -> ScanStep:
        seconds = 0.0 if self._began is None else time.monotonic() - self._began
        rate = self._measured / seconds if self._measured and seconds else float("nan")
        return ScanStep(self._n_parts, self._n_tokens, self._fraction, rate, self.result)


def _context(tokenizer, kept: Kept) -> Context:
    ids = kept.ids.tolist()
    bos = tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id and kept.start == 0
    return Context(
        source=kept.source,
        start=kept.start,
        ids=tuple(ids),
        glyphs=tuple(display_token(tokenizer, i).glyph for i in ids),
        text=tokenizer.decode(ids[bos:], clean_up_tokenization_spaces=False),
        bos=bos,
    )


def _check(model: BaseModel, **sizes: int | None) -> None:
    least = {"window": LEAST, "max_tokens": LEAST, "top": 1, "part_tokens": 1, "batch_tokens": 1}
    for name, size in sizes.items():
        if size is not None and size < least[name]:
            raise NptVizError(f"{name} must be at least {least[name]}, got {size}")
    if (sizes["window"] or 0) > model.context_length:
        raise NptVizError(
            f"window is {sizes['window']:,} tokens and {model.name} holds {model.context_length:,}; choose at most that"
        )
