"""A scan as a job. Its thread fills the scan's folder, and keeps what is known so far for the page."""

from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npt_viz.errors import NptVizError
from npt_viz.figures.thumbnail import profile
from npt_viz.progress import Progress
from npt_viz.question import Mode, Positions
from npt_viz.results.scan import LEVELS, ScanResult
from npt_viz.results.sentences.scan import scan as sentence_of
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Selection
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.shell.job import Job, Slot, State
from npt_viz.ui.shell.recording import Recording

if TYPE_CHECKING:
    from npt_viz.scanning.corpus import Corpus
    from npt_viz.scanning.running import ScanStep

RESULT = "scan.json"


@dataclass(frozen=True)
class Plan:
    """A scan that could start now."""

    source: Selection
    corpus: "Corpus"
    folder: Path
    mode: Mode
    positions: Positions
    predict: bool
    window: int | None
    max_tokens: int | None


class ScanJob(Job):
    """One scan; parts that are finished stay when it is stopped, and Start goes on with the others."""

    def __init__(self, plan: Plan, *, recording: Recording | None = None) -> None:
        """recording: its entry in the history, written when it ends."""
        super().__init__(self._steps)
        self.plan, self._recording = plan, recording
        self.latest: ScanStep | None = None

    def _steps(self, progress: Progress) -> Generator[float]:
        from npt_viz.model.memory import out_of_memory_explained
        from npt_viz.scanning.running import scan_steps

        plan = self.plan
        model, checkpoint = opened.opened(plan.source)
        progress("reading the corpus", None)
        yield 0.0
        with out_of_memory_explained(
            "this scan", "choose a shorter window, or a checkpoint with fewer layers"
        ):
            for step in scan_steps(
                model,
                checkpoint,
                plan.corpus,
                plan.folder,
                mode=plan.mode,
                positions=plan.positions,
                predict=plan.predict,
                window=plan.window,
                max_tokens=plan.max_tokens,
            ):
                self.latest = step
                progress(step.line, None)
                yield step.fraction

    def _end(self, state: State, error: str | None = None) -> None:
        if self._recording is not None and self.latest is not None:
            with suppress(NptVizError):
                result = self.latest.result()
                self._recording.put(sentence=sentence_of(result), thumbnail=thumbnail_of(result))
        super()._end(state, error)


def thumbnail_of(result: ScanResult) -> str:
    """Median share recovered by layer; of one layer its quantiles."""
    keys = [f"{layer} recovered" for layer in result.layers]
    if len(keys) == 1:
        return profile(np.array([result.quantile(keys[0], level) for level in LEVELS]))
    return profile(np.array([result.quantile(key, 0.5) for key in keys]))


class ScanSlot(Slot[ScanJob]):
    """The browser's scan."""

    what, page = "a scan", "scan"


def scan_slot() -> ScanSlot:
    """The place of this browser's one job of this kind, shared by all its tabs."""
    return owner().shared("scan", ScanSlot)


def saved_scans() -> list[str]:
    """Finished scans in the workspace, the newest first."""
    files = owner().folder.runs.glob(f"*/{RESULT}")
    return [str(file.parent) for file in sorted(files, key=lambda file: -file.stat().st_mtime)]
