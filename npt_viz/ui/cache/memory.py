"""Memory bar: bytes of the model, the adapters and one inspection, free memory, and the release button."""

from typing import NamedTuple

import streamlit as st

from npt_viz.figures.theme import REFERENCE, ROLES
from npt_viz.ui.cache.opened import Selection, opened, release


class Memory(NamedTuple):
    """Memory in use and free, in bytes."""

    model: int
    adapters: int
    activations: int
    """Estimate for the prompt that is open."""
    free: int
    where: str
    """GPU or RAM"""


def memory(selection: Selection) -> Memory:
    """Memory of what is open now; the device is asked for its free part."""
    from npt_viz.model.memory import activation_bytes, free_bytes

    model, checkpoint = opened(selection)
    return Memory(
        model=model.memory_bytes(),
        adapters=checkpoint.cached_bytes(),
        activations=activation_bytes(model, *st.session_state.get("_pass_size", (0, 0))),
        free=free_bytes(model.device),
        where="RAM" if model.device.type == "cpu" else model.device.type.upper(),
    )


def memory_bar(memory: Memory) -> None:
    """Bar to scale with its legend."""
    used = memory.model + memory.adapters + memory.activations
    whole = (used + memory.free) or 1
    parts = [
        ("model", memory.model, ROLES["base"]),
        ("adapters", memory.adapters, ROLES["npt"]),
        ("activations ≈", memory.activations, ROLES["exact"]),
        (f"free {memory.where}", memory.free, REFERENCE + "55"),
    ]
    bar = "".join(
        f'<span style="width:{max(100 * n / whole, 0.5 if n else 0):.2f}%;background:{colour}"></span>'
        for _, n, colour in parts
    )
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{name} <b>{size(n)}</b></span>'
        for name, n, colour in parts
    )
    st.html(f'<div class="npt-memory"><div class="bar">{bar}</div><div class="legend">{legend}</div></div>')


def size(n_bytes: float) -> str:
    """Size in words: 1.2 GB, 34 MB, 560 kB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def release_button(selection: Selection) -> None:
    """Button that frees the model; the pages then wait until it is opened again."""
    st.button(
        "Release memory",
        key="memory_release",
        icon=":material/eject:",
        type="tertiary",
        on_click=_release,
        args=[selection],
        help="Drops the model and the checkpoint from memory, for every browser that uses this server.",
    )


def _release(selection: Selection) -> None:
    release(selection)
    st.session_state["_released"] = True
