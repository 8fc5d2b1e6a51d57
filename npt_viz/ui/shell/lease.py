"""What runs in this browser's name, said on every page, and how long it goes on without a tab; how far a job is."""

import streamlit as st

from npt_viz.ui.cache.owner import owner
from npt_viz.ui.shell.guarded import problem
from npt_viz.ui.shell.job import Slot, Snapshot
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


def job_status(now: Snapshot, *, parts: str, done: str = "") -> None:
    """How far a job is, how long it still takes at its pace, and why it failed.

    parts: what Start goes on with after a stop. done: what is added where it has finished, as Markdown.
    """
    left = now.seconds / now.fraction * (1 - now.fraction) if now.fraction > 0.01 else None
    text = {
        "preparing": plain(now.stage),
        "running": f"{plain(now.stage)} · {now.fraction:.0%}"
        + (f" · about {_time(left)} left" if left is not None else ""),
        "finished": f"finished in {_time(now.seconds)}{done}",
        "stopped": f"stopped; Start goes on with the {parts} that are not finished",
        "failed": "failed",
    }[now.state]
    st.progress(min(1.0, now.fraction if now.state != "finished" else 1.0), text=text)
    if now.error:
        problem(now.error)


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _slots() -> list[Slot]:
    return [each for each in owner().work() if isinstance(each, Slot)]
