"""GGUF files, dequantised by transformers and turned into ordinary dense models."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from npt_viz.errors import NptVizError
from npt_viz.identity import GGUF, begins_with, damage_of
from npt_viz.model.quiet import quiet_transformers


def check_gguf(path: Path, name: str) -> None:
    """Raise NptVizError where a .gguf file is empty, a pointer to the file, or something else."""
    if (damage := damage_of(path)) is not None:
        raise NptVizError(f"{name}: is {damage.words}; {damage.advice}")
    if not begins_with(path, GGUF):
        raise NptVizError(f"{name}: is no GGUF file, whatever its name; copy or download it again")


def incomplete_gguf(path: Path, name: str) -> NptVizError:
    """The error for a file that begins as GGUF and cannot be read."""
    return NptVizError(
        f"{name}: begins as a GGUF file and cannot be read ({path.stat().st_size:,} bytes); it may be truncated: "
        "copy or download it again"
    )


def dense_model(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, dict]:
    """The model in a .gguf file with ordinary float weights, and transformers' report of missing keys.

    transformers dequantises every tensor but goes on calling the model quantised, which forbids moving and
    saving it; so its weights are given to a fresh model of the same class.
    """
    with quiet_transformers():
        loaded_with_report: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=dtype, output_loading_info=True
        )
        loaded, report = loaded_with_report
        settings = loaded.config.to_dict()
        for key in (
            "quantization_config",
            "_name_or_path",
            "transformers_version",
            "architectures",
            "model_type",
        ):
            settings.pop(key, None)
        dense = type(loaded)(type(loaded.config)(**settings))
        dense.load_state_dict(loaded.state_dict(), assign=True)
        dense.tie_weights()
        dense.generation_config = loaded.generation_config
    return dense, report


def gguf_tokenizer(path: Path):
    """The tokenizer in a .gguf file, with its chat template."""
    with quiet_transformers():
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
