"""Devices, their free memory, and errors that explain a lack of it."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

import psutil
import torch

from npt_viz.errors import NptVizError
from npt_viz.files import gigabytes


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


@contextmanager
def out_of_memory_explained(work: str, advice: str) -> Iterator[None]:
    """Inside the block, running out of memory is one sentence: what needed it, what is free, what to do.

    What the failed functions held is dropped, although the error that they raised lives on in the sentence's
    context.
    """
    try:
        yield
        return
    except (MemoryError, RuntimeError) as error:
        # torch's CPU allocator has no error class of its own.
        is_cpu = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
        if not is_cpu and not isinstance(error, torch.OutOfMemoryError):
            raise
        where = "CPU" if is_cpu else "GPU"
        clear_frames(error.__traceback__)
    release_unused()
    device = best_device() if where == "GPU" else torch.device("cpu")
    raise NptVizError(
        f"{work} needs more {where} memory than there is ({gigabytes(free_bytes(device))} free now); {advice}"
    )
