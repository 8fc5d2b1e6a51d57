"""Every token of a part through the base and the NPT model: several windows in one pass, one row of numbers a token."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from npt_viz.adapter import Additive, LayerAdapter
from npt_viz.capture.finite import refuse_overflow
from npt_viz.capture.inspection import scalars_of
from npt_viz.capture.layer_trace import (
    BASE,
    NPT,
    LayerRun,
    as_numpy,
    fit_of,
    lane_of,
    layer_run,
    sinks_of_any,
)
from npt_viz.capture.predictions import predictions
from npt_viz.capture.running import LayerRecord, Pass, forward_pass
from npt_viz.model.base import BaseModel
from npt_viz.question import Mode, Positions, check_mode, check_positions
from npt_viz.results.scan import FITS, PREDICTED, Quantity
from npt_viz.scanning.classes import TokenKinds, places
from npt_viz.scanning.summary import Summary, TokenTable, summary_of
from npt_viz.scanning.windows import Part, Window
from npt_viz.shapes import Tensor

BATCH_TOKENS = 2048
"""Tokens of one pass."""

MOST_SCALARS = 16
"""Components of a target whose scalars are kept: a low-rank rule (T1) has as many as its rank."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is measured at every token."""

    layers: tuple[int, ...]
    mode: Mode = "local"
    positions: Positions = "deployed"

    predict: bool = True
    """Also the predictions of the running NPT model; without them no layer above the last NPT layer runs."""

    top: int = 10
    """Of the worst tokens, for every number."""

    batch_tokens: int = BATCH_TOKENS

    def __post_init__(self) -> None:
        check_mode(self.mode)
        check_positions(self.positions)


def quantities_of(adapters: Mapping[int, LayerAdapter], *, predict: bool) -> tuple[Quantity, ...]:
    """The numbers that every token gets, layer by layer."""
    found = [Quantity(name) for name in PREDICTED] if predict else []
    for layer, adapter in sorted(adapters.items()):
        found += [Quantity(name, layer) for name in FITS]
        for target, modulation in adapter.learned.items():
            if not isinstance(modulation, Additive):
                found.append(Quantity("update_norm", layer, target))
                n = min(modulation.components, MOST_SCALARS)
                found += [Quantity("scalar", layer, target, j) for j in range(n)]
    return tuple(found)


class Measurer:
    """A model and adapters, ready for parts."""

    def __init__(self, model: BaseModel, adapters: Mapping[int, LayerAdapter], task: Task) -> None:
        self.model, self.task = model, task
        self.adapters = {layer: adapters[layer] for layer in task.layers}
        self.quantities = quantities_of(self.adapters, predict=task.predict)
        self._kinds = TokenKinds(model.tokenizer)

    def summary(self, part: Part) -> Summary:
        """A part, measured and summed up."""
        return summary_of(self.table(part), part, self.task.top)

    @torch.no_grad()
    def table(self, part: Part) -> TokenTable:
        """Every number of every token of a part.

        Raises NotFiniteError where the base or an adapter overflows.
        """
        windows = part.windows
        lengths = np.array([len(window.ids) for window in windows])
        starts = np.concatenate([[0], np.cumsum(lengths)])
        values = np.full((int(starts[-1]), len(self.quantities)), np.nan, np.float32)
        is_sink = np.zeros(len(values), bool)
        for batch in self._batches(lengths):
            columns, sinks = self._batch([windows[i] for i in batch])
            rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in batch])
            values[rows], is_sink[rows] = np.stack(columns, axis=1), sinks
        position = np.concatenate([np.arange(n) for n in lengths])
        ids = np.concatenate([window.ids for window in windows])
        return TokenTable(
            quantities=self.quantities,
            values=values,
            window=np.repeat([window.number for window in windows], lengths),
            cluster=np.repeat([window.cluster for window in windows], lengths),
            position=position,
            of_class=self._kinds.classes(ids, position == 0, is_sink),
            place=places(position),
            script=self._kinds.scripts(ids),
        )

    def _batches(self, lengths: np.ndarray) -> Iterator[list[int]]:
        """Windows of like lengths together, so that little is filled up; each alone where a layer pools over its text."""
        if any(adapter.is_pooled for adapter in self.adapters.values()):
            yield from ([i] for i in range(len(lengths)))
            return
        batch: list[int] = []
        for i in np.argsort(-lengths, kind="stable").tolist():
            if batch and (len(batch) + 1) * lengths[batch[0]] > self.task.batch_tokens:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _batch(self, windows: Sequence[Window]) -> tuple[list[np.ndarray], np.ndarray]:
        """(a column for each quantity, is a sink): tokens of the windows one after the other."""
        task, model = self.task, self.model
        lengths = [len(window.ids) for window in windows]
        token_ids = torch.zeros(len(windows), max(lengths), dtype=torch.long)
        for row, window in enumerate(windows):
            token_ids[row, : len(window.ids)] = torch.from_numpy(window.ids)
        both = task.predict or task.mode == "propagated"
        with model.lock:
            recorded = forward_pass(
                model,
                token_ids,
                [{}, self.adapters] if both else [{}],
                record=list(self.adapters),
                positions=task.positions,
                stop_after=None if task.predict else max(self.adapters),
            )
            is_token = torch.arange(token_ids.shape[1]) < torch.tensor(lengths)[:, None]
            flat = _flat(recorded, is_token, n_lanes=1 + both)
            columns = self._predicted(flat, token_ids[is_token], lengths) if task.predict else []
            for layer, adapter in self.adapters.items():
                run = layer_run(model, adapter, flat.layers[layer], lane_of(task.mode))
                columns += self._of_layer(adapter, run)
        return columns, self._sinks(flat, lengths)

    def _predicted(self, flat: Pass, token_ids: Tensor, lengths: Sequence[int]) -> list[np.ndarray]:
        predicted = predictions(self.model, flat.final, token_ids, top_k=1)
        nll = predicted.nll
        # What follows the last token of a window is another window.
        nll[:, np.cumsum(lengths) - 1] = np.nan
        by_name = {
            "kl": predicted.kl[NPT],
            "nll_change": nll[NPT] - nll[BASE],
            "nll_base": nll[BASE],
            "nll_npt": nll[NPT],
            "agrees": predicted.agrees[NPT].astype(np.float32),
        }
        return [by_name[name] for name in PREDICTED]

    def _of_layer(self, adapter: LayerAdapter, run: LayerRun) -> list[np.ndarray]:
        """Columns of one layer, in the order of `quantities_of`."""
        fit = fit_of(adapter, run.trace)
        columns = [fit[name] for name in FITS]
        for target, modulation in run.adapter.learned.items():
            if isinstance(modulation, Additive):
                continue
            home = next(modulation.parameters())
            a = run.trace.attention.to(home)
            x = (run.modulated.intermediate if target == "down" else run.trace.mlp_input).to(home)
            norm, scalars = modulation.update_norm(a), scalars_of(modulation, a, x)
            for what, of in (("‖ΔW‖", norm[:, None]), ("v_a·x", scalars)):
                refuse_overflow(self.model, adapter.layer, of, f"{what} of the {target}", adapter)
            columns += [as_numpy(norm), *as_numpy(scalars[:, :MOST_SCALARS]).T]
        return columns

    @staticmethod
    def _sinks(flat: Pass, lengths: Sequence[int]) -> np.ndarray:
        """(token,) attention sinks of each window, of the base's stream in both modes."""
        streams = [record.hidden[BASE].split(list(lengths)) for record in flat.layers.values()]
        return torch.cat([sinks_of_any(of_window) for of_window in zip(*streams, strict=True)]).numpy()


def _flat(recorded: Pass, is_token: Tensor, *, n_lanes: int) -> Pass:
    """A pass of several windows as one of a single text: what filled up is gone, windows follow each other."""

    def flat(state: Tensor) -> Tensor:
        if not state.numel():
            return state
        lanes = state.unflatten(0, (n_lanes, -1))
        return lanes.flatten(1, 2) if bool(is_token.all()) else lanes[:, is_token.to(state.device)]

    layers = {}
    for layer, record in recorded.layers.items():
        layers[layer] = LayerRecord()
        for name in ("hidden", "attention", "mlp_output"):
            setattr(layers[layer], name, flat(getattr(record, name)))
    return Pass(final=flat(recorded.final), stream=flat(recorded.stream), layers=layers)
