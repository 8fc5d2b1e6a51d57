"""What runs is said on every page but its own, and for how long it goes on."""

import re
import threading

import pytest

from npt_viz.ui.shell.job import Job, Slot


class Working(Slot):
    what, page = "a training", "training"


@pytest.fixture
def work():
    """A slot whose job stands at 40 % until it is stopped."""
    slot, held = Working(), threading.Event()

    def steps(progress):
        yield 0.4
        held.wait(60)
        yield 0.5

    slot.begin(Job(steps))
    while slot.job.snapshot().state != "running":
        pass
    yield slot
    slot.end()
    held.set()
    slot.wait(60)


def said(page) -> str:
    return "\n".join(each.value for each in page.main.markdown).replace("\\", "")


def opened(app, page, work):
    found = app("home")
    found.session_state["_owner"].shared("training", lambda: work)
    return (found.switch_page(f"pages/{page}.py") if page != "home" else found).run()


@pytest.mark.parametrize("page", ["home", "tokens", "runs"])
def test_a_training_that_runs_is_said_on_another_page_with_the_way_to_it(app, work, page):
    found = opened(app, page, work)
    assert not found.exception and "A training runs · 40%" in said(found)
    (banner,) = [each for each in found.main.markdown if "A training runs" in each.value]
    assert "takes no cookies" in banner.help
    found.session_state["_owner"].last()
    (banner,) = [each for each in found.run().main.markdown if "A training runs" in each.value]
    assert "It stops after 12 hours without any tab" in banner.help
    (link,) = [each for each in found.main.get("page_link") if each.proto.label == "open"]
    assert link.proto.page == "training"


def test_its_own_page_and_an_idle_browser_say_nothing(app, work):
    assert "A training runs" not in said(opened(app, "training", work))
    assert not re.search("(runs|waits) ·", said(app("home")))


def test_one_that_waits_is_said_to_wait(app, work):
    work.job.pause()
    assert "A training waits · paused" in said(opened(app, "tokens", work))
