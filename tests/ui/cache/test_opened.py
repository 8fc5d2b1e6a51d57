"""One model for all sessions, a new one for a changed file, none after a release."""

import os
import subprocess
import sys

import pytest

from npt_viz.errors import NptVizError
from npt_viz.places import ROOT
from npt_viz.ui.cache import opened
from npt_viz.ui.cache.opened import Selection, stamp


@pytest.fixture
def selection(on_disk) -> Selection:
    checkpoint = on_disk.checkpoint
    return Selection(on_disk.model, stamp(on_disk.model), "auto", "auto", checkpoint, stamp(checkpoint), "")


def test_the_same_files_are_the_same_objects(selection):
    assert all(
        one is other for one, other in zip(opened.opened(selection), opened.opened(selection), strict=True)
    )


def test_another_reading_shares_the_model_and_not_the_checkpoint(selection):
    model, checkpoint = opened.opened(selection)
    model_again, reread = opened.opened(selection._replace(semantics="N3"))
    assert model_again is model and reread is not checkpoint


def test_a_release_closes_the_model_and_the_next_use_opens_another(selection):
    model, _ = opened.opened(selection)
    opened.release(selection)
    assert model.closed
    again, checkpoint = opened.opened(selection)
    assert again is not model and checkpoint.model is again


def test_no_checkpoint_is_a_sentence(selection):
    with pytest.raises(NptVizError, match="no checkpoint is open"):
        opened.opened(selection._replace(checkpoint=""))


def test_the_stamp_is_the_same_in_another_process(tmp_path):
    (tmp_path / "weights").write_bytes(b"x")
    program = "import sys; from npt_viz.ui.cache.opened import stamp; print(stamp(sys.argv[1]))"
    there = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == stamp(str(tmp_path)) != ""


def test_the_stamp_changes_with_the_file_and_only_then(tmp_path):
    file = tmp_path / "deep" / "npt_weights.pt"
    file.parent.mkdir()
    file.write_bytes(b"1")
    before = stamp(str(tmp_path))
    assert stamp(str(tmp_path)) == before
    os.utime(file, ns=(1, 1))
    assert stamp(str(tmp_path)) != before
    assert stamp(str(tmp_path / "nowhere")) == ""
