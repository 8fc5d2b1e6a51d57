"""An experiment as a job. The page reads the experiment's folder; the job's thread fills it."""

from pathlib import Path

import streamlit as st

from npt_viz.ui.shell.job import Job, Slot, Work


class ExperimentJob(Job):
    """One experiment; arms that are finished stay when it is stopped."""

    def __init__(self, folder: Path, work: Work) -> None:
        super().__init__(work)
        self.folder = folder


class ExperimentSlot(Slot[ExperimentJob]):
    """The session's experiment."""


@st.cache_resource(scope="session", on_release=lambda slot: slot.end(), show_spinner=False)
def experiment_slot() -> ExperimentSlot:
    """This session's slot; closing the tab ends what runs in it."""
    return ExperimentSlot()
