"""npt_viz in the browser: `streamlit run app.py`."""

import streamlit as st

if __name__ == "__main__":  # Each run of a page.
    from npt_viz.ui.shell.frame import run_app

    run_app()
else:  # The server, once.
    from starlette.middleware import Middleware

    from npt_viz.server.document import Unframed, routes
    from npt_viz.server.life import lifespan

    app = st.App(__file__, routes=routes(), middleware=[Middleware(Unframed)], lifespan=lifespan)
