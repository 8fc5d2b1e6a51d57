"""Tensors of weights files, read one at a time: names and shapes from the header, values on request.

Nothing here can run code from a file: safetensors has none, and torch files are read by the tensors-only unpickler.
"""

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from npt_viz.errors import NptVizError

_SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


class TensorInfo(NamedTuple):
    """Shape, dtype and size of one tensor, from the header."""

    shape: tuple[int, ...]
    dtype: str
    """float32, bfloat16, …; a safetensors code where torch has no such float; meta where there are no values"""
    bytes: int
    storage: tuple[int, ...] | None = None
    """Where the values lie in memory, the same for two names of one tensor; None where that is not known."""

    def shares_memory(self, other: "TensorInfo") -> bool:
        """Whether both are names of one tensor."""
        return self.storage is not None and self.storage == other.storage

    @property
    def is_float(self) -> bool:
        """Whether torch can compute with the dtype as a float."""
        return self.dtype in ("float64", "float32", "float16", "bfloat16")


class TensorStore:
    """Named tensors of which only the header is in memory."""

    def __init__(self, infos: Mapping[str, TensorInfo], files: Sequence[Path] = ()) -> None:
        self.infos = infos
        self.read_names: list[str] = []
        """Names of the tensors whose values were read, in order."""
        self._stamps = {file: _stamp(file) for file in files}
        self._closed = False

    def read(self, name: str) -> Tensor:
        """One tensor as stored, in memory of its own (on the CPU, unless it never came from a file)."""
        return self.mapped(name).clone()

    def mapped(self, name: str) -> Tensor:
        """One tensor as stored, memory-mapped from its file: to be looked at, not kept."""
        if self._closed:
            raise NptVizError(f"the tensor {name} cannot be read: its checkpoint was closed; open it again")
        for file, stamp in self._stamps.items():
            # A map of a file that is being rewritten gives mixed weights, and a bus error where it became shorter.
            if _stamp(file) != stamp:
                raise NptVizError(
                    f"{file}: the file changed since it was opened; open it again to see the new weights"
                )
        self.read_names.append(name)
        return self._mapped(name)

    def _mapped(self, name: str) -> Tensor:
        raise NotImplementedError

    def close(self) -> None:
        """Drop the maps of the files."""
        self._closed = True


class SafetensorsStore(TensorStore):
    """One safetensors file, or the shards of one checkpoint."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._handles, infos = {}, {}
        for file in files:
            try:
                handle = safe_open(file, framework="pt", device="cpu")
            except (SafetensorError, OSError, ValueError):
                raise NptVizError(
                    f"{file}: is no complete safetensors file ({_bytes(file)}), so it may be truncated: copy or "
                    "download it again"
                ) from None
            for name in handle.keys():  # noqa: SIM118 - not a mapping
                self._handles[name] = handle
                infos[name] = _info_of_slice(handle.get_slice(name))
        super().__init__(infos, files)

    def _mapped(self, name: str) -> Tensor:
        return self._handles[name].get_tensor(name)

    def close(self) -> None:
        """Drop the tensors."""
        super().close()
        self._handles.clear()


class MappingStore(TensorStore):
    """A dict of tensors: memory-mapped from a torch file, or the parameters of a live adapter."""

    def __init__(self, tensors: Mapping[str, Tensor], files: Sequence[Path] = ()) -> None:
        self._tensors = dict(tensors)
        super().__init__({name: _info_of_tensor(t) for name, t in self._tensors.items()}, files)

    def _mapped(self, name: str) -> Tensor:
        return self._tensors[name].detach()

    def close(self) -> None:
        """Drop the tensors."""
        super().close()
        self._tensors.clear()


def is_safetensors(file: Path) -> bool:
    """Whether a file is safetensors, by content: eight bytes of header length, then JSON."""
    with file.open("rb") as opened:
        return opened.read(9)[8:] == b"{"


def read_torch_file(file: Path, *, allowed: Sequence[type] = ()) -> object:
    """Content of a torch file, memory-mapped; tensors and plain containers only.

    allowed: classes that may be rebuilt besides (never callables with effects).
    Raises NptVizError for anything else, without having run it.
    """
    with file.open("rb") as opened:
        is_zip = opened.read(4) == b"PK\x03\x04"
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except MemoryError:
        raise NptVizError(f"{file}: does not fit in memory; free some, or open it elsewhere") from None
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted:
            raise NptVizError(
                f"{file}: refused, because its pickle asks for {wanted[1]}; a checkpoint may hold tensors only "
                "and nothing of it was run. Get the weights as safetensors"
            ) from None
        raise _unreadable(file) from None
    except Exception:  # A parser of damaged bytes can raise anything.
        raise _unreadable(file) from None


def write_torch_file(file: Path, content: object) -> None:
    """Write with torch.save; a full disk, which torch reports as RuntimeError, raises OSError."""
    try:
        torch.save(content, file)
    except RuntimeError as error:
        raise OSError(str(error).splitlines()[0]) from None


def _unreadable(file: Path) -> NptVizError:
    return NptVizError(
        f"{file}: is neither safetensors nor a complete torch file of tensors ({_bytes(file)}); it may be truncated: "
        "copy or download it again"
    )


def _bytes(file: Path) -> str:
    return f"{file.stat().st_size:,} bytes" if file.is_file() else "no file"


def _stamp(file: Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except OSError:
        return (0, 0)
    return stat.st_mtime_ns, stat.st_size


def _info_of_slice(piece) -> TensorInfo:
    shape, code = tuple(piece.get_shape()), piece.get_dtype()
    dtype = _SAFETENSORS_DTYPES.get(code)
    if dtype is None:
        return TensorInfo(shape, code, 0)
    return TensorInfo(shape, str(dtype).removeprefix("torch."), torch.Size(shape).numel() * dtype.itemsize)


def _info_of_tensor(tensor: Tensor) -> TensorInfo:
    shape = tuple(tensor.shape)
    if tensor.is_meta:
        return TensorInfo(shape, "meta", 0)
    storage = (tensor.data_ptr(), *shape, *tensor.stride()) if tensor.numel() else None
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorInfo(shape, dtype, tensor.numel() * tensor.element_size(), storage)
