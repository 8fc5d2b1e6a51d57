"""Values that are not finite: counted in a tensor, and looked for in every weight of a base model as it is opened."""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn

from npt_viz.errors import NotFiniteError

REMEDY = {
    torch.float16: "open the model with dtype float32 or bfloat16",
    torch.bfloat16: "open the model with dtype float32",
}
"""What helps where a narrow dtype has overflowed."""

_checked: set[tuple] = set()
"""Fingerprints of the files, with their dtype, whose weights were found finite in this process."""


class NonFinite(NamedTuple):
    """The values of one tensor that are NaN or infinite."""

    n_nan: int
    n_inf: int
    of: int
    """Values in all."""
    first: tuple[int, ...]
    """Index of the first one."""

    def __str__(self) -> str:
        index = ", ".join(map(str, self.first))
        return f"{self.n_nan} NaN and {self.n_inf} infinite of its {self.of:,} values, the first at [{index}]"


def non_finite(tensor: Tensor) -> NonFinite | None:
    """The values that are NaN or infinite; None where all are finite, which takes one pass."""
    # A NaN anywhere makes both extremes NaN; a tenth of the time of isfinite().
    if tensor.numel() == 0 or all(math.isfinite(extreme) for extreme in tensor.detach().aminmax()):
        return None
    bad = ~tensor.isfinite()
    first = tuple(bad.nonzero()[0].tolist())
    return NonFinite(int(tensor.isnan().sum()), int(tensor.isinf().sum()), tensor.numel(), first)


def bad_weight(hf: nn.Module) -> tuple[str, NonFinite] | None:
    """(name, what is wrong) of the first weight that is not finite; weights that are not in memory are left out."""
    for name, weight in hf.named_parameters():
        if not weight.is_meta and (bad := non_finite(weight)) is not None:
            return name, bad
    return None


def check_weights(hf: nn.Module, name: str, files: Path) -> None:
    """Raise NotFiniteError for a weight that is NaN or infinite; files that are known to be finite are not read again.

    files: the folder or file that the weights came from.
    """
    fingerprint = _fingerprint(hf, files)
    if fingerprint in _checked:
        return
    if (found := bad_weight(hf)) is not None:
        key, bad = found
        raise NotFiniteError(f"{name}: {_sentence(key, bad, hf.get_parameter(key).dtype, files)}")
    _checked.add(fingerprint)


def _sentence(key: str, bad: NonFinite, dtype: torch.dtype, files: Path) -> str:
    largest = _largest_stored(files, key)
    if largest is not None and math.isfinite(largest):
        return (
            f"the weight {key} is too large for {str(dtype).removeprefix('torch.')}, which ends at "
            f"{torch.finfo(dtype).max:.4g}: its largest value is {largest:.4g}, and it holds {bad}; "
            f"{REMEDY.get(dtype, 'get the model again')}"
        )
    return f"the weight {key} holds {bad}; no layer can run on it: copy or download its file again"


def _largest_stored(files: Path, key: str) -> float | None:
    """Largest size of a value of the tensor in the file; None where no safetensors file has the name."""
    for file in sorted(files.glob("*.safetensors")):
        with safe_open(file, framework="pt", device="cpu") as stored:
            if key in stored.keys():  # noqa: SIM118 - not a mapping
                return float(stored.get_tensor(key).float().abs().max())
    return None


def _fingerprint(hf: nn.Module, files: Path) -> tuple:
    """What changes when the files do: names, sizes and times; and the dtype that they were read in."""
    parts = [files] if files.is_file() else sorted(files.glob("*.safetensors"))
    marks = [(str(part), (status := part.stat()).st_mtime_ns, status.st_size) for part in parts]
    return (*marks, next(hf.parameters()).dtype)
