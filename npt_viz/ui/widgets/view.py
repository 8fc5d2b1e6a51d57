"""View of an Inspect page: question, result, layer, token and colour."""

from dataclasses import dataclass

import numpy as np

from npt_viz.figures.theme import ColourScale, Theme, colour_scale
from npt_viz.question import Question
from npt_viz.results.inspection import METRICS, TOKEN_METRICS, Inspection, Metric
from npt_viz.results.sentences import Basis
from npt_viz.ui.cache.opened import Asked, Selection

ALL_METRICS = METRICS | TOKEN_METRICS


@dataclass(frozen=True)
class View:
    """One inspected prompt, one layer, one token, one colour: what an Inspect page shows."""

    asked: Asked
    """What is open and the question, its layers settled: the key of everything that is computed."""
    run: Inspection
    layer: int
    token: int
    metric_name: str
    with_sinks: bool
    """Whether attention sinks count in colours and medians."""
    theme: Theme

    @property
    def selection(self) -> Selection:
        return self.asked.selection

    @property
    def question(self) -> Question:
        return self.asked.question

    @property
    def metric(self) -> Metric:
        return ALL_METRICS[self.metric_name]

    @property
    def left_out(self) -> np.ndarray:
        """(token,) bool: attention sinks that count neither in colours nor in medians."""
        return np.zeros_like(self.run.is_sink) if self.with_sinks else self.run.is_sink

    @property
    def basis(self) -> Basis:
        """What a sentence about this view is measured on."""
        return Basis.of_run(self.run, with_sinks=self.with_sinks)

    @property
    def layers(self) -> list[int]:
        return sorted(self.run.layers)

    @property
    def values(self) -> np.ndarray:
        """(layer, token) of the chosen metric; a single row for one that belongs to the whole model."""
        if self.metric_name in TOKEN_METRICS:
            return getattr(self.run, self.metric_name)[None]
        return np.stack([self.run.layers[layer].values(self.metric_name) for layer in self.layers])

    @property
    def layer_values(self) -> np.ndarray:
        """(token,) of the chosen metric in the chosen layer."""
        return self.values[0 if self.metric_name in TOKEN_METRICS else self.layers.index(self.layer)]

    @property
    def scale(self) -> ColourScale:
        """Colour scale of all layers, so that another layer does not change what a colour means."""
        return colour_scale(self.metric, self.values[:, ~self.left_out], self.theme)
