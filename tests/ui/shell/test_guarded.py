"""What a page shows of an error: its sentence, lack of memory as such, and a number for what nobody foresaw."""

import pytest
from streamlit.testing.v1 import AppTest


def page(error: str, *, callback: bool = False) -> AppTest:
    """A page on which this error is raised, inside `guarded` or in a callback."""

    def script(error: str, callback: bool):
        import errno  # noqa: F401

        import streamlit as st
        import torch  # noqa: F401

        from npt_viz.errors import NptVizError  # noqa: F401
        from npt_viz.ui.shell.guarded import guarded, guarded_callback

        raised = eval(error)

        @guarded_callback
        def fail() -> None:
            raise raised

        if callback:
            st.button("go", key="go", on_click=fail)
        else:
            with guarded():
                raise raised

    found = AppTest.from_function(
        script, kwargs={"error": error, "callback": callback}, default_timeout=30
    ).run()
    return found.button(key="go").click().run() if callback else found


RAN_OUT = (
    "MemoryError()",
    "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 7.00 GiB')",
    "OSError(errno.ENOMEM, 'Cannot allocate memory')",
)


@pytest.mark.parametrize("callback", [False, True])
@pytest.mark.parametrize("error", RAN_OUT)
def test_lack_of_memory_is_explained_on_every_page_and_in_callbacks(error, callback):
    found = page(error, callback=callback)
    assert not found.exception
    (shown,) = found.error
    assert "needs more" in shown.value and "memory than there is" in shown.value
    assert "fewer tokens or layers" in shown.value and "foresee" not in shown.value


def test_a_known_error_is_its_sentence_and_an_unknown_one_a_number():
    assert "give another" in page("NptVizError('it is wrong; give another')", callback=True).error[0].value
    unknown = page("KeyError('secret')").error[0].value
    assert "did not foresee" in unknown and "secret" not in unknown
