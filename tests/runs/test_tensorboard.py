"""Event files, read back by TensorBoard's own reader where it is installed."""

import sys

import numpy as np
import pytest

from npt_viz.errors import NptVizError
from npt_viz.results.runs import Run
from npt_viz.results.training import Curves
from npt_viz.runs.tensorboard import write_events


def run_of(*layers):
    columns = {"total": np.array([3.0, 2.0, np.nan]), "heldout/recovered": np.array([np.nan, np.nan, 0.5])}
    curves = {layer: Curves(layer=layer, steps=np.array([1, 2, 30]), columns=columns) for layer in layers}
    return Run(name="my run/1", origin="here", format="npt_viz", layers=curves)


def test_every_layer_has_its_event_files_with_what_was_measured(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written = write_events([run_of(3, 7)], tmp_path / "events")
    assert [path.name for path in written] == ["my_run_1_layer_3", "my_run_1_layer_7"]
    found = EventAccumulator(str(written[1])).Reload()
    assert [(each.step, each.value) for each in found.Scalars("total")] == [(1, 3.0), (2, 2.0)]
    assert [(each.step, each.value) for each in found.Scalars("heldout/recovered")] == [(30, 0.5)]
    with pytest.raises(NptVizError, match="has files in it already; choose another folder"):
        write_events([run_of(3, 7)], tmp_path / "events")


def test_without_tensorboard_the_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(NptVizError, match="TensorBoard is not installed: `pip install tensorboard`"):
        write_events([run_of(3)], tmp_path / "events")
    assert not (tmp_path / "events").exists()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    with pytest.raises(NptVizError, match="choose another folder"):
        write_events([run_of(3)], tmp_path / "file")
