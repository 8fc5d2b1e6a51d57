"""Libraries that only the app, figures, tables and attributions need: the extra `app` in pyproject.toml."""

from npt_viz.errors import NptVizError

APP = ("streamlit", "starlette", "plotly", "captum", "pandas", "pyarrow")


def missing(library: str) -> NptVizError:
    """The error where one of APP is not installed."""
    return NptVizError(f'this needs {library}, which is not installed: pip install "npt_viz[app]"')
