"""Open a base model: locate it, check that it can carry NPT layers, then read its weights."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from npt_viz.arguments import checked
from npt_viz.errors import NptVizError
from npt_viz.files import gigabytes
from npt_viz.model.base import BaseModel
from npt_viz.model.finite import check_weights
from npt_viz.model.gguf import check_gguf, dense_model, gguf_tokenizer, incomplete_gguf
from npt_viz.model.hub import Located
from npt_viz.model.live import live_model
from npt_viz.model.llama_type import KNOWN, check_arithmetic, check_structure
from npt_viz.model.locating import located
from npt_viz.model.memory import best_device, free_bytes, out_of_memory_explained
from npt_viz.model.quiet import quiet_transformers
from npt_viz.progress import Progress, no_progress

_log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Placement = torch.device | str | Mapping[str, object]
"""One device, or what accelerate takes as device_map: "auto" or module -> device."""


@checked
def open_model(
    name: str | Path | nn.Module,
    *,
    tokenizer: Any = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | Mapping[str, object] = "auto",
    progress: Progress = no_progress,
) -> BaseModel:
    """Open a base model, in eval mode and without gradients.

    name: an alias (`smollm2-135m`), a local folder, a .gguf file, or a hub id; an alias is never downloaded here. Or a
        transformers model that is in memory, in training or not: its weights are shared and it is never changed.
    tokenizer: of a model in memory; where it is not given, the one under the model's own name on this machine.
    dtype: float32, bfloat16 or float16; auto is the checkpoint's own on an accelerator and float32 on the CPU, or
        bfloat16 with a note where float32 would not fit.
    device: cpu, cuda, cuda:1, mps; auto is the best there is; map spreads a model over all devices with
        accelerate, and auto does the same where the model is too big for the best device. A mapping is
        accelerate's device_map.
    Raises NptVizError where the model is not there, cannot carry NPT layers, or does not fit, and NotFiniteError
    where one of its weights is NaN or infinite.
    """
    if isinstance(name, nn.Module):
        if (dtype, device) != ("auto", "auto"):
            raise NptVizError(
                "a model in memory keeps its dtype and device; leave out dtype and device, or move it yourself"
            )
        return live_model(name, tokenizer, _skeleton)
    if tokenizer is not None:
        raise NptVizError(
            f"{name}: a tokenizer is given with a model in memory alone; this one is opened with its own"
        )
    name = str(name)
    files = located(name, progress)
    if files.is_gguf:
        check_gguf(files.path, name)
    progress("reading the config", None)
    wanted = _device(device)
    config = _config(name, files)
    skeleton, notes = _skeleton(name, config, wanted)
    check_structure(skeleton, name)
    n_weights = sum(p.numel() for p in skeleton.parameters())
    is_choice = dtype == "auto"
    dtype = _dtype(dtype, config, wanted)
    if is_choice and dtype == torch.float32:
        dtype, narrowed = _that_fits(n_weights, wanted)
        notes += narrowed
    needed = n_weights * dtype.itemsize
    placement = _placement(name, needed, wanted, is_choice=device == "auto")
    progress("loading the tokenizer", None)
    tokenizer = _tokenizer(name, files)
    progress("loading the weights", None)
    advice = "close other models, choose a smaller dtype (bfloat16), or use device='map'"
    with out_of_memory_explained(f"{name} ({gigabytes(needed)} in {_word(dtype)})", advice):
        hf = _weights(name, files, dtype, placement, config)
        hf.eval().requires_grad_(False)
        check_weights(hf, name, files.path)
        if config.model_type not in KNOWN:
            check_arithmetic(hf, name)
    for note in notes:
        # On stderr of every command, and in the log of the app.
        _log.warning("%s: %s", name, note)
    progress("ready", 1.0)
    return BaseModel(hf=hf, tokenizer=tokenizer, name=name, source=files.source, notes=notes)


def _config(name: str, files: Located):
    path = files.path
    try:
        with quiet_transformers():
            if files.is_gguf:
                return AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
            config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # Whatever a config may do to its reader: it is the user's file.
        if files.is_gguf:
            raise incomplete_gguf(path, name) from None
        raise NptVizError(
            f"{name}: its config cannot be read ({_first_line(error)}); npt_viz opens what this version of "
            "transformers knows and never runs code from a model folder"
        ) from None
    if getattr(config, "quantization_config", None):
        raise NptVizError(
            f"{name}: its weights are quantised ({_quantisation(config)}), which NPT cannot read or edit; "
            "open the unquantised model, or a .gguf file, which is dequantised"
        )
    return config


def _quantisation(config) -> str:
    settings = config.quantization_config
    return (
        settings.get("quant_method", "unknown method")
        if isinstance(settings, dict)
        else type(settings).__name__
    )


def _skeleton(name: str, config, wanted: Placement = "auto") -> tuple[PreTrainedModel, tuple[str, ...]]:
    """The model without memory for its weights, and a note where its attention is another than its config names.

    The config of a model that was saved on a GPU may name an attention that needs a package or a GPU of its own; sdpa
    takes its place, in the config too.
    """
    named = config._attn_implementation
    if named in (None, *PLAIN_ATTENTION):
        return _built(name, config), ()
    if isinstance(wanted, torch.device) and wanted.type == "cuda":
        try:
            return _built(name, config), ()
        except NptVizError:
            reason = "is not installed"
    else:
        where = wanted if isinstance(wanted, torch.device) else "a map of devices"
        reason = f"npt_viz does not use on {where}"
    config._attn_implementation = "sdpa"
    same = ", which computes the same" if str(named).startswith(SAME_AS_SDPA) else ""
    note = f"its config names the attention {named}, which {reason}; attention runs as sdpa{same}"
    return _built(name, config), (note,)


SAME_AS_SDPA = ("flash_attention", "flex_attention")
"""What names of attention begin with that differ from sdpa in speed alone."""

PLAIN_ATTENTION = ("sdpa", "eager")
"""Attention of torch itself, which runs everywhere."""


def _built(name: str, config) -> PreTrainedModel:
    try:
        with torch.device("meta"), quiet_transformers():
            return AutoModelForCausalLM.from_config(config)
    except Exception as error:  # A config that transformers reads but cannot build.
        raise NptVizError(
            f"{name} ({config.model_type}) is no causal language model that transformers can build "
            f"({_first_line(error)}); open a model of the Llama type"
        ) from None


def _device(device: str | torch.device | Mapping[str, object]) -> Placement:
    if isinstance(device, Mapping):
        for place in device.values():
            if place != "disk":
                _one_device(place)
        return device
    if device == "auto":
        return best_device()
    if device == "map":
        return "auto"
    return _one_device(device)


def _one_device(device: object) -> torch.device:
    choices = ", ".join(dict.fromkeys(["cpu", str(best_device()), "auto"]))
    try:
        chosen = torch.device(device.strip() if isinstance(device, str) else device)  # pyright: ignore[reportArgumentType]
        if chosen.type != "meta":
            torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError):
        raise NptVizError(f"device {device!r:.60} is not on this machine; choose {choices} or map") from None
    if chosen.type == "meta":
        raise NptVizError(
            f"device 'meta' holds no values, so no model can run there; choose {choices} or map"
        )
    return chosen


def _dtype(dtype: str | torch.dtype, config, wanted: Placement) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        dtype = _word(dtype)
    if dtype == "auto":
        accelerated = wanted.type != "cpu" if isinstance(wanted, torch.device) else torch.cuda.is_available()
        own = getattr(config, "dtype", None) or torch.bfloat16
        return own if accelerated else torch.float32
    if dtype not in DTYPES:
        raise NptVizError(f"dtype {dtype!r} is not one of auto, {', '.join(DTYPES)}; choose one of these")
    return DTYPES[dtype]


def _that_fits(n_weights: int, wanted: Placement) -> tuple[torch.dtype, tuple[str, ...]]:
    """float32, or bfloat16 and the reason where so many weights do not fit in float32 but do in half of it."""
    if not isinstance(wanted, torch.device):
        return torch.float32, ()
    needed, free = n_weights * torch.float32.itemsize, free_bytes(wanted)
    if needed < free or needed // 2 >= free:
        return torch.float32, ()
    note = (
        f"opened in bfloat16, because float32 needs {gigabytes(needed)} and {wanted} has {gigabytes(free)} free: every "
        "weight and activation is rounded to about 3 digits; with more memory, dtype float32 shows whether a number holds"
    )
    return torch.bfloat16, (note,)


def _placement(name: str, needed: int, wanted: Placement, *, is_choice: bool) -> Placement:
    """The device, or accelerate's map where the user left the choice to us and one accelerator is too small."""
    if not isinstance(wanted, torch.device):
        return wanted
    free = free_bytes(wanted)
    if needed < free:
        return wanted
    if wanted.type == "cuda" and is_choice:
        return "auto"
    raise NptVizError(
        f"{name} needs {gigabytes(needed)} and {wanted} has {gigabytes(free)} free; "
        "close other models, choose a smaller dtype (bfloat16), or use device='map'"
    )


def _tokenizer(name: str, files: Located):
    path = files.path
    try:
        with quiet_transformers():
            if files.is_gguf:
                return gguf_tokenizer(path)
            return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # Its files are the user's, as with the config.
        raise NptVizError(
            f"{name}: its tokenizer cannot be read ({_first_line(error)}); "
            + (
                "convert the original model again"
                if files.is_gguf
                else "put tokenizer.json beside config.json"
            )
        ) from None


def _weights(
    name: str, files: Located, dtype: torch.dtype, placement: Placement, config: Any
) -> PreTrainedModel:
    """The loaded model; raises where a weight is missing, which transformers would fill with random numbers."""
    is_mapped = not isinstance(placement, torch.device)
    loaded: Any
    try:
        if files.is_gguf:
            loaded = dense_model(files.path, dtype)
        else:
            with quiet_transformers():
                loaded = AutoModelForCausalLM.from_pretrained(
                    files.path,
                    dtype=dtype,
                    device_map=placement if is_mapped else None,
                    use_safetensors=True,
                    config=config,
                    trust_remote_code=False,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                )
    except (SafetensorError, OSError, ValueError) as error:
        raise NptVizError(
            f"{name}: its weights cannot be read ({_first_line(error)}); copy or fetch its files again"
        ) from None
    hf, report = loaded
    faults = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if faults:
        raise NptVizError(
            f"{name}: {len(faults)} of its weights are missing or have another shape, the first is {faults[0]}; "
            "copy or fetch its files again"
        )
    if not is_mapped:
        return hf.to(placement)
    return hf.to(best_device()) if files.is_gguf else hf


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
