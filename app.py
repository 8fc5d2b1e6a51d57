"""npt_viz in the browser: `streamlit run app.py`."""

from npt_viz.ui.shell.frame import run_app

run_app()
