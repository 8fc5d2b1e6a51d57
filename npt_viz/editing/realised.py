"""Rounding of an edited weight: requested ΔW against the ΔW that is left in float32, bfloat16 or float16."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from npt_viz.editing.updates import Factors, Place, Update, accumulated
from npt_viz.errors import NotFiniteError
from npt_viz.model.base import BaseModel, weight_of
from npt_viz.model.finite import non_finite
from npt_viz.results.editing import EditReport, RealisedEdit
from npt_viz.shapes import Float

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CHUNK_ELEMENTS = 2**22
"""Entries of a weight in float32 at a time: 16 MB."""


def projection_weight(model: BaseModel, place: Place) -> Float[Tensor, "out inp"]:
    """Weight of one projection of the base model, in its dtype; read-only."""
    return weight_of(getattr(model.parts(place.layer), place.target))


def edited_weight(
    weight: Float[Tensor, "out inp"], factors: Factors, dtype: torch.dtype
) -> Float[Tensor, "out inp"]:
    """W + ΔW, added in float32 and cast once; a new tensor on the CPU."""
    edited = torch.empty(weight.shape, dtype=dtype)
    for rows, before, change in _chunks(weight, factors):
        edited[rows] = (before + change).to(dtype)
    return edited


def edit_report(
    model: BaseModel, updates: Sequence[Update], dtypes: Sequence[str] = tuple(DTYPES)
) -> EditReport:
    """Requested and realised ΔW of the sum of all updates, for each projection and dtype."""
    total = accumulated(updates)
    return EditReport(
        edits=tuple(
            _realised(projection_weight(model, place), factors, place, dtype)
            for place, factors in total.items()
            for dtype in dtypes
        ),
        singular_values={place.parameter: factors.singular_values() for place, factors in total.items()},
    )


def check_finite(model: BaseModel, factors: Mapping[Place, Factors], dtype: torch.dtype) -> None:
    """Raise NotFiniteError where an edited weight would not be finite in this dtype."""
    for place, parts in factors.items():
        for _, before, change in _chunks(projection_weight(model, place), parts):
            if non_finite((before + change).to(dtype)) is not None:
                name = str(dtype).removeprefix("torch.")
                raise NotFiniteError(
                    f"{place.parameter} would not be finite in {name} with this update; choose a smaller alpha"
                )


def _realised(weight: Tensor, factors: Factors, place: Place, dtype: str) -> RealisedEdit:
    sums = dict.fromkeys(("requested", "realised", "both", "weight"), 0.0)
    n_changed, finite = 0, True
    for _, before, change in _chunks(weight, factors):
        stored = before.to(DTYPES[dtype])
        edited = (before + change).to(DTYPES[dtype])
        finite &= bool(edited.isfinite().all())
        n_changed += int((edited != stored).sum())
        realised = edited.double() - stored.double()
        requested = change.double()
        sums["requested"] += float(requested.square().sum())
        sums["realised"] += float(realised.square().sum())
        sums["both"] += float((requested * realised).sum())
        sums["weight"] += float(before.double().square().sum())
    norms = {name: value**0.5 for name, value in sums.items() if name != "both"}
    lengths = norms["requested"] * norms["realised"]
    return RealisedEdit(
        parameter=place.parameter,
        dtype=dtype,
        requested_norm=norms["requested"],
        relative_norm=norms["requested"] / norms["weight"] if norms["weight"] else float("inf"),
        realised_norm=norms["realised"],
        cosine=sums["both"] / lengths if lengths else float("nan"),
        changed=n_changed / weight.numel(),
        finite=finite,
    )


def _chunks(weight: Tensor, factors: Factors) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(rows, W, ΔW) in float32 on the CPU, a few rows at a time: the dense ΔW never exists as a whole."""
    v_a, v_b = torch.from_numpy(factors.v_a), torch.from_numpy(factors.v_b)
    step = max(1, CHUNK_ELEMENTS // weight.shape[1])
    for start in range(0, weight.shape[0], step):
        rows = slice(start, start + step)
        yield rows, weight[rows].cpu().float(), v_b[:, rows].T @ v_a
