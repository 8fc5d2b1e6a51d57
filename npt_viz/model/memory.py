"""Devices, their free memory, and errors that explain a lack of it."""

import errno
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

import psutil
import torch

from npt_viz.errors import NptVizError
from npt_viz.files import gigabytes
from npt_viz.model.base import BaseModel


def best_device() -> torch.device:
    """Device on which models run by default: cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def free_bytes(device: torch.device) -> int:
    """Bytes that a new model could take on a device."""
    match device.type:
        case "cuda":
            # What torch has reserved but does not use is free for us, though not in the driver's eyes.
            reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return torch.cuda.mem_get_info(device)[0] + reserved
        case "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        case _:
            return psutil.virtual_memory().available


def release_unused() -> None:
    """Return the memory of dropped tensors to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


_SAYINGS = (
    "can't allocate memory",
    "defaultcpuallocator",
    "out of memory",
    "not enough memory",
    "cublas_status_alloc_failed",
    "cannot allocate memory",
)
"""What libraries without an error class for it say, in lower case."""

_ASKED = re.compile(r"(?:tried to allocate|unable to allocate)\s+([\d.]+)\s*(bytes|[KMGTP]i?B)", re.I)
_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: Python's, numpy's, torch's on any device, the system's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(saying in str(error).lower() for saying in _SAYINGS)


def asked_bytes(error: BaseException) -> int | None:
    """Bytes of the allocation that failed, where the error says; None where it does not."""
    asked = _ASKED.search(str(error))
    return int(float(asked[1]) * _UNITS[asked[2][0].lower()]) if asked else None


def out_of_memory_sentence(error: BaseException, work: str, advice: str) -> str:
    """Sentence on an error that `is_out_of_memory`: what was done, what it asked for, what is free, what to do.

    The memory of dropped tensors is given back first, so that what is free is what the next try has.
    """
    message = str(error).lower()
    is_gpu = isinstance(error, torch.OutOfMemoryError) or any(
        name in message for name in ("cuda", "cublas", "mps backend")
    )
    release_unused()
    device = best_device() if is_gpu else torch.device("cpu")
    asked = asked_bytes(error)
    wanted = f"it asked for {in_words(asked)} at once, " if asked else ""
    return (
        f"{work} needs more {'GPU' if is_gpu else 'CPU'} memory than there is ({wanted}{in_words(free_bytes(device))} free "
        f"now); {advice}"
    )


@contextmanager
def out_of_memory_explained(work: str, advice: str) -> Iterator[None]:
    """Inside the block, running out of memory is one sentence: what needed it, what is free, what to do.

    What the failed functions held is dropped, although the error that they raised lives on in the sentence's
    context.
    """
    try:
        yield
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        clear_frames(error.__traceback__)
        sentence = out_of_memory_sentence(error, work, advice)
    raise NptVizError(sentence)


def check_fits(needed: int, device: torch.device, work: str, advice: str) -> None:
    """Raise NptVizError before work whose estimate, in bytes, is more than a device has free."""
    if needed < SMALL:
        return
    free = free_bytes(device)
    if needed > free:
        raise NptVizError(
            f"{work} needs about {in_words(needed)} and {device} has {in_words(free)} free; {advice}"
        )


def in_words(n_bytes: float) -> str:
    """Bytes in words, small ones in MB."""
    return gigabytes(n_bytes) if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


SMALL = 2**26
"""Bytes that are not worth asking a device for."""


def activation_bytes(model: BaseModel, n_tokens: int, n_recorded: int, n_lanes: int = 2) -> int:
    """Bytes of one pass, at most: the lanes of the stream and one MLP, plus the records, in float32.

    A layer's record is h, a and the MLP's output of every lane; the MLP's three inner tensors live one layer at a
    time, and so do three of the adapter's.
    """
    stream = n_lanes * n_tokens * model.d_model
    return 4 * (stream * (2 + 3 * n_recorded) + 6 * n_lanes * n_tokens * model.d_ffn)
