"""What runs in this browser's name, said on every page, and how long it goes on without a tab."""

import streamlit as st

from npt_viz.ui.cache.owner import owner
from npt_viz.ui.shell.job import Slot
from npt_viz.ui.shell.nav import page_file
from npt_viz.ui.shell.text import plain
from npt_viz.workspace.place import idle_hours

REFRESH = 2.0
"""Seconds between two looks at what runs."""


def lease_sentence() -> str:
    """How long work goes on when nobody is there."""
    if not owner().lasts:
        return "This browser takes no cookies: what runs ends soon after its tab is closed."
    hours = idle_hours()
    return f"It stops after {hours:g} hour{'s' * (hours != 1)} without any tab of this browser."


def job_banner(here: str) -> None:
    """Say what runs, with the way to its page; nothing while nothing runs, or on that page itself.

    here: name of the page that is drawn.
    """
    for slot in _slots():
        if slot.is_active and slot.page != here:
            st.fragment(_banner, run_every=REFRESH)(slot)


def _banner(slot: Slot) -> None:
    job = slot.job
    if job is None:
        return
    now = job.snapshot()
    if now.is_active:
        said = f"{slot.what} {'waits' if now.state == 'paused' else 'runs'} · {job.line}"
    else:
        said = f"{slot.what} {'has failed' if now.state == 'failed' else f'is {now.state}'}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"npt_runs_{slot.page}"):
        st.markdown(
            f":material/sync: {plain(said[:1].upper() + said[1:])}", help=lease_sentence(), width="content"
        )
        st.page_link(page_file(slot.page), label="open", icon=":material/arrow_forward:")


def _slots() -> list[Slot]:
    return [each for each in owner().work() if isinstance(each, Slot)]
