"""A `training_log.jsonl` of the public code: its rows, under names that say what the numbers are."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from npt_viz.runs.config import TERM_NAMES
from npt_viz.runs.table import measurement, number

_LAYER = re.compile(r"layer_(\d{1,4})_(.+)")
SIMILARITY = "attention_similarity"
_PLAIN = {
    "total_loss": "total",
    "loss": "total",
    "lr": "learning_rate",
    "mixing_ratio": "curriculum/mixing_ratio",
    "v_a_attention_similarity": SIMILARITY,
    "v_a_attn_similarity": SIMILARITY,
}
NORMS = {"v_a_norm": "v_a", "v_b_norm": "v_b", "modulation_magnitude": "s·v_b"}
"""Column of the log -> whose norm it is, over the whole batch."""
PERPLEXITY = "exp(distillation loss)"
STAGES = ("stage", "curriculum_stage")

_TRAINING = "train/"
"""What W&B and Hugging Face's Trainer put before the numbers of a step."""

_EVALUATION = ("val_", "eval_", "val/", "eval/")

FIXED_SET = "fixed set/"
"""What names of the evaluations in a run's folder `evaluation` begin with here: their text is not that of val_loss."""

EXP_TOLERANCE = 0.01
"""How far, relatively, a number may be from exp(loss) to count as it."""


def is_evaluation(row: Mapping) -> bool:
    """Whether a line holds nothing of a training step itself."""
    evaluated = False
    for name, value in row.items():
        if name in ("step", "seconds") or measurement(value) is None:
            continue
        if not name.startswith(_EVALUATION):
            return False
        evaluated = True
    return evaluated


class Columns:
    """Renames the columns row by row, and remembers what a reader must be told about them."""

    def __init__(self) -> None:
        self.similarities = [0, 0]
        """How many were logged, and how many of them are 0.0."""
        self.perplexities = [0, 0, 0]
        """How many were logged, how many of them could be checked, how many are exp of a loss."""
        self.not_finite = 0
        self.norms: set[str] = set()
        self.stages: list[tuple[int, str]] = []
        """(first step, name) of each stage that the log names."""

    def read(self, row: Mapping, step: int) -> Iterator[tuple[int | None, str, float]]:
        """(layer, column, value) of everything in a row that is a number."""
        self._note_stage(row, step)
        for name, raw in _entries(row):
            # A million lines come through here: the common case first.
            value = raw if type(raw) is float else measurement(raw)
            meaning = _meaning(name)
            if value is None or meaning is None:
                continue
            if not math.isfinite(value):
                self.not_finite += 1
                yield meaning.layer, meaning.column, math.nan
            elif not meaning.noted or self._counts(meaning, value, row):
                yield meaning.layer, meaning.column, value

    def notes(self) -> Iterator[str]:
        """A sentence for each column that does not mean what its name says."""
        logged, zeros = self.similarities
        if zeros:
            yield (
                f"v_a_attention_similarity is 0.0 on {zeros:,} of {logged:,} lines, which means “not computed” there: "
                "those are left blank."
            )
        logged, checked, equal = self.perplexities
        if logged:
            checks = (
                f"{equal:,} of {checked:,} that could be checked agree"
                if checked
                else "none could be checked"
            )
            yield (
                f"The logged perplexity is shown as “{PERPLEXITY}”: the public code takes the exponential of its "
                f"distillation loss, which is no perplexity of a language model ({checks})."
            )
        if self.norms:
            yield (
                f"{', '.join(sorted(self.norms))} are norms of the whole batch, all tokens together: they grow with "
                "the square root of batch × length, so runs of different batches cannot be compared by them."
            )
        if self.not_finite:
            yield f"{self.not_finite:,} values are NaN, infinite or null and leave gaps in the lines."

    def _counts(self, meaning: "_Meaning", value: float, row: Mapping) -> bool:
        """Take note of a column that needs one; False for a 0 that stands for "not computed"."""
        if meaning.column == SIMILARITY:
            self.similarities[0] += 1
            self.similarities[1] += value == 0
            return value != 0
        if meaning.name in NORMS:
            self.norms.add(meaning.name)
            return value != 0 or meaning.name != "modulation_magnitude"
        self._check(value, row)
        return True

    def _check(self, value: float, row: Mapping) -> None:
        losses = [number(other) for name, other in row.items() if name.endswith("loss")]
        losses_in_range = [loss for loss in losses if loss is not None and loss < 700]
        self.perplexities[0] += 1
        self.perplexities[1] += bool(losses_in_range)
        self.perplexities[2] += any(
            math.isclose(math.exp(x), value, rel_tol=EXP_TOLERANCE) for x in losses_in_range
        )

    def _note_stage(self, row: Mapping, step: int) -> None:
        stage = next((row[name] for name in STAGES if isinstance(row.get(name), str | int)), None)
        if stage is None:
            return
        label = f"stage {stage}" if isinstance(stage, int) else stage[:40]
        while self.stages and self.stages[-1][0] > step:
            self.stages.pop()
        if not self.stages or self.stages[-1][1] != label:
            self.stages.append((step, label))


class _Meaning(NamedTuple):
    """What a column of the log is."""

    name: str
    """There, without its layer"""
    layer: int | None
    column: str
    """Here"""
    noted: bool
    """Whether a reader must be told something about it"""


def _entries(row: Mapping) -> Iterable[tuple[str, object]]:
    """(name, value); several layers' numbers are nested."""
    nested = row.get("layer_losses")
    return chain(row.items(), nested.items()) if isinstance(nested, Mapping) else row.items()


@lru_cache(maxsize=4096)
def _meaning(name: str) -> _Meaning | None:
    """layer_14_direct_mlp -> layer 14, loss/direct; None for what is no measurement."""
    of_layer = _LAYER.fullmatch(name)
    layer, name = (int(of_layer[1]), of_layer[2]) if of_layer else (None, name.removeprefix(_TRAINING))
    if name == "step" or name in STAGES:
        return None
    column = _named(name)
    return _Meaning(name, layer, column, column == SIMILARITY or name in NORMS or "perplexity" in name)


def _named(name: str) -> str:
    """direct_mlp_loss -> loss/direct, val_loss -> heldout/total; others as they are."""
    if name.startswith(FIXED_SET):
        words = _named(name.removeprefix(FIXED_SET))
        return f"heldout/{FIXED_SET}{words.removeprefix('loss/')}{' loss' * words.startswith('loss/')}"
    for prefix in _EVALUATION:
        if name.startswith(prefix):
            return f"heldout/{_named(name.removeprefix(prefix)).removeprefix('loss/')}"
    if "perplexity" in name:
        return PERPLEXITY
    if name in _PLAIN:
        return _PLAIN[name]
    if name in NORMS:
        return f"batch norm/{NORMS[name]}"
    words = name.removesuffix("_loss")
    if words in TERM_NAMES:
        return f"loss/{TERM_NAMES[words]}"
    return f"loss/{words}" if name.endswith("_loss") else name
