"""Watch somebody's own training loop: its steps, and what its adapters do by now, in a run folder that Runs follows live.

Nothing here may end the loop: an error is one warning, and what failed is then left out.
"""

import operator
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from npt_viz.analysis.health import health
from npt_viz.arguments import checked
from npt_viz.capture.inspection import inspect
from npt_viz.capture.probe import windows
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.errors import NotFiniteError, NptVizError
from npt_viz.files import plain_json
from npt_viz.model.base import BaseModel
from npt_viz.places import typed_path
from npt_viz.results.estimate import median_of
from npt_viz.results.health import Finding
from npt_viz.results.inspection import Inspection
from npt_viz.runs.findings import FINDINGS, findings_line
from npt_viz.texts import bundled_texts
from npt_viz.training.log import FILE, first_line, row_line, steps_logged

EVERY = 100
"""Steps between two looks at the adapters."""

WINDOWS = 4
"""Windows of the text that a look reads, each of at most as many tokens as the probe's."""

Adapters = Checkpoint | Live | Callable[[], Checkpoint | Live]


@checked
def watch(
    folder: str | Path,
    model: BaseModel | None = None,
    adapters: Adapters | None = None,
    *,
    layers: float | Sequence[float] | None = None,
    every: int = EVERY,
    texts: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> "Watch":
    """Write the steps of a training loop, and every `every` steps what its adapters do, into a folder.

    model, adapters: what is looked at: `npt_viz.open_model(...)`, and live adapters as `npt_viz.inspect` takes them, or a
        function that returns them. Without both, only steps are written.
    layers: the layers whose steps are written, as whole numbers of any type; those of the adapters by default.
    texts: held-out text of your own, of which four short windows are read; the bundled text by default.
    settings: how it is trained, shown on Runs.
    A folder that has a log already is continued. Of several processes (torch.distributed) the first one writes.
    Raises NptVizError where the folder cannot be written, or there is no layer to write about; later it only warns.
    """
    return Watch(folder, model, adapters, layers=layers, every=every, texts=texts, settings=settings or {})


class Watch:
    """A run folder that is being written; see `watch`. Also a context that closes it."""

    def __init__(
        self,
        folder: str | Path,
        model: BaseModel | None,
        adapters: Adapters | None,
        *,
        layers: float | Sequence[float] | None,
        every: int,
        texts: Sequence[str] | None,
        settings: Mapping[str, Any],
    ) -> None:
        if every < 1:
            raise NptVizError(f"every is {every}; look at the adapters every 1 step or more")
        if (model is None) != (adapters is None):
            raise NptVizError(
                "model and adapters go together: give both, or neither and only steps are written"
            )
        self.folder = typed_path(folder)
        self._model, self._adapters, self._every = model, adapters, every
        self._texts = texts
        self._sequences: list[list[int]] | None = None
        self._failed: set[str] = set()
        self._writes = _is_first_process()
        self._layers = self._layers_of(layers)
        self._last = self._begin(settings) if self._writes else 0
        self._started = time.monotonic()

    def step(
        self,
        total: Any = None,
        *,
        step: int | None = None,
        layer: int | None = None,
        losses: Mapping[str, Any] | None = None,
        learning_rate: Any = None,
        grad_norm: Any = None,
        n_tokens: int | None = None,
        **columns: Any,
    ) -> None:
        """Write one optimiser step; numbers may be tensors of one element.

        total: what was minimised. losses: its terms, unweighted, by name. step: its number; the next one by default.
        layer: where each layer has a step of its own, called in the order of the layers; otherwise the numbers are those
            of all layers together.
        columns: anything else to draw, by its name.
        """
        if not self._writes:
            return
        at = number = wrong = None
        try:
            at = None if layer is None else _whole("layer", layer)
            number = None if step is None else _whole("step", step)
        except Exception as error:
            wrong = error
        if at in (None, self._layers[0]):
            self._last = self._last + 1 if number is None else number
        row = {
            "total": total,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "n_tokens": n_tokens,
        } | columns
        self._tried(
            "steps", lambda: self._write_step(self._layers if at is None else [at], row, losses, wrong)
        )
        if at in (None, self._layers[-1]) and self._last % self._every == 0:
            self.look()

    def look(self) -> None:
        """Look at the adapters now: held-out share and findings, written at the last step."""
        if self._writes and self._model is not None:
            self._tried("looks at the adapters", self._write_look)

    def _tried(self, what: str, do: Callable[[], None]) -> None:
        """Do it; the first error is a warning, and from then on this is left out."""
        if what in self._failed:
            return
        try:
            do()
        except Exception as error:
            self._failed.add(what)
            sentence = f"npt_viz.watch: {what} are left out from step {self._last} on, and the training goes on: {error}"
            try:
                warnings.warn(sentence, RuntimeWarning, stacklevel=4)
            except Exception:  # Where warnings are errors, this one is not.
                print(sentence, file=sys.stderr)

    def _write_step(
        self, layers: Sequence[int], row: Mapping[str, Any], losses: Any, wrong: Exception | None
    ) -> None:
        """wrong: why the step's number or layer could not be read."""
        if wrong is not None:
            raise wrong
        if not isinstance(losses, Mapping | None):
            raise NptVizError(f"losses is a {type(losses).__name__}; give a dict, name -> number")
        row = {**row, **{f"loss/{name}": value for name, value in (losses or {}).items()}}
        numbers = {name: _number(value) for name, value in row.items() if value is not None}
        self._append({layer: {"seconds": time.monotonic() - self._started, **numbers} for layer in layers})

    def _write_look(self) -> None:
        with _undisturbed(self._model):
            columns, findings = self._looked()
        self._append(columns)
        _append_to(self.folder / FINDINGS, findings_line(self._last, findings))

    def close(self) -> None:
        """Nothing is left open between two steps; may be called twice."""

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _looked(self) -> tuple[dict[int, dict[str, float]], Sequence[Finding]]:
        model = self._model
        assert model is not None and self._adapters is not None
        try:
            checkpoint = as_checkpoint(_current(self._adapters), model)
            if self._sequences is None:
                text = bundled_texts("heldout")[-WINDOWS:] if self._texts is None else self._texts
                self._sequences = windows(model, text, WINDOWS)
            runs = [inspect(model, checkpoint, ids, logits=False) for ids in self._sequences]
            columns = {layer: heldout_columns(runs, layer) for layer in checkpoint.layers}
            return columns, health(model, checkpoint, self._texts, quick=True).findings
        except NotFiniteError as error:
            # What a training that diverges comes to: it is what is to be seen, and no failure of the look.
            found = Finding(
                rule="not_finite",
                severity="error",
                layer=None,
                evidence={},
                meaning=str(error),
                action="Go back to an earlier checkpoint and lower the step size, or clip the gradient.",
            )
            return {}, [found]

    def _layers_of(self, layers: float | Sequence[float] | None) -> list[int]:
        known: list[int] = []
        if layers is not None:
            given = layers if isinstance(layers, Iterable) and getattr(layers, "ndim", 1) else [layers]
            known = sorted(_whole("a layer", layer) for layer in given)
        elif self._model is not None and self._adapters is not None:
            try:
                known = list(as_checkpoint(_current(self._adapters), self._model).layers)
            except NotFiniteError:
                raise NptVizError(
                    "the adapters are not finite, so their layers are not known; give layers="
                ) from None
        if known:
            return known
        raise NptVizError("no layer is known to write about; give layers=15, or model and adapters")

    def _begin(self, settings: Mapping[str, Any]) -> int:
        """Make the folder and the log, or take up the one that is there; its last step."""
        log = self.folder / FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not log.exists():
                described = plain_json({**settings, "layers": self._layers, "watched": True})
                with log.open("x", encoding="utf-8") as file:
                    file.write(first_line(self.folder.name, described))
                return 0
            for name in (FILE, FINDINGS):
                _cut_unfinished(self.folder / name)
        except OSError as error:
            raise NptVizError(
                f"{log}: cannot be written ({error.strerror or error}); check the space and the permissions, or choose "
                "another folder"
            ) from None
        return steps_logged(log)

    def _append(self, rows: Mapping[int, Mapping[str, float]]) -> None:
        lines = [row_line({"step": self._last, "layer": layer, **row}) for layer, row in rows.items()]
        _append_to(self.folder / FILE, "".join(lines))


def heldout_columns(runs: Sequence[Inspection], layer: int) -> dict[str, float]:
    """The columns of a step that was evaluated, from inspections of held-out text; sinks are left out of all but one."""
    keep = ~np.concatenate([run.is_sink for run in runs])
    inspected = [run.layers[layer] for run in runs]
    recovered, error = (
        np.concatenate([getattr(each, name) for each in inspected])
        for name in ("recovered", "relative_error")
    )
    share, sinks = median_of(recovered[keep]), median_of(recovered[~keep])
    columns = {
        "heldout/recovered": share.value,
        "heldout/recovered_low": share.low,
        "heldout/recovered_high": share.high,
        "heldout/relative_error": median_of(error[keep]).value,
        "heldout/sink_recovered": sinks.value,
        "heldout/n_tokens": int(keep.sum()),
    }
    for target in inspected[0].targets:
        scalars = np.concatenate([each.scalars[target] for each in inspected])[keep]
        norms = np.concatenate([each.update_norms[target] for each in inspected])[keep]
        if scalars.size:
            columns[f"{target}/scalar_mean"] = float(scalars.mean())
            columns[f"{target}/scalar_variance"] = float(scalars.var(axis=0).mean())
            columns[f"{target}/update_norm"] = float(norms.mean())
    return columns


def _current(adapters: Adapters) -> Checkpoint | Live:
    return adapters if isinstance(adapters, Checkpoint | Mapping | nn.Module) else adapters()


def _number(value: Any) -> float:
    """A number as it can be written; a tensor of one element is one."""
    if isinstance(value, torch.Tensor):
        value = value.detach().float().item()
    return float(value)


def _whole(name: str, value: Any) -> int:
    """A whole number, also as a tensor or array of one element. Raises NptVizError where it is none."""
    try:
        if isinstance(value, torch.Tensor | np.ndarray | np.generic):
            return _whole(name, value.item())
        if isinstance(value, float) and value.is_integer():
            return int(value)
        number: Any = value
        return operator.index(number)
    except (TypeError, ValueError, RuntimeError):
        raise NptVizError(f"{name} is {value!r:.40}; give a whole number") from None


@contextmanager
def _undisturbed(model: BaseModel | None) -> Iterator[None]:
    """Inside the block the loop's random numbers are not used up, and its autocast does not apply."""
    assert model is not None, "there is something to look at"
    device = model.device
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        yield


def _is_first_process() -> bool:
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank())


def _append_to(path: Path, lines: str) -> None:
    """Append whole lines in one write, so that no reader sees half of one and a killed process leaves none."""
    place = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(place, lines.encode())
    finally:
        os.close(place)


def _cut_unfinished(path: Path) -> None:
    """Drop a last line without an end, which a full disk or a killed machine leaves."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        start = max(0, end - 2**20)
        file.seek(start)
        tail = file.read()
        file.truncate(start + tail.rfind(b"\n") + 1)
