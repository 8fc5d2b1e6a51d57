"""Offline runs of Weights & Biases: what was logged comes back, damage is a sentence, and nothing in a file is trusted.

tests/runs/offline was written by wandb 0.31.0 (tests/wandb_logged.py); its records are those that wandb 0.19.11's own
`datastore` finds, and other logs are made here by hand from the format.
"""

import json
import math
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import wandb_logged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npt_viz.errors import NptVizError
from npt_viz.runs import files_of, found_runs, read_run, read_runs
from npt_viz.runs.records import BLOCK, fields

FOLDER = Path(__file__).with_name("offline")
EARLIER, LATER = sorted(FOLDER.glob("wandb/*/run-surgeon15.wandb"))


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def made_of(*parts: tuple[int, bytes | int]) -> bytes:
    """A protobuf message of (field, content)."""
    message = b""
    for number, content in parts:
        if isinstance(content, int):
            message += varint(number << 3) + varint(content)
        else:
            message += varint(number << 3 | 2) + varint(len(content)) + content
    return message


def item(name: str | tuple[str, ...], value: object) -> bytes:
    names = [(1, name.encode())] if isinstance(name, str) else [(2, part.encode()) for part in name]
    return made_of(*names, (16, json.dumps(value).encode()))


def history(step: int, **values: object) -> bytes:
    items = [(1, item(name, value)) for name, value in values.items()]
    return made_of((2, made_of(*items, (2, made_of((1, step))))))


def config(**values: object) -> bytes:
    return made_of((5, made_of(*((1, item(name, value)) for name, value in values.items()))))


def log_of(*messages: bytes) -> bytes:
    """A log of these records, in parts where they do not fit a block."""
    log = bytearray(b":W&B\xe1\xbe\x00")
    for message in messages:
        begun, rest = False, message
        while True:
            room = BLOCK - len(log) % BLOCK
            if room < 7:
                log += bytes(room)
                continue
            part, rest = rest[: room - 7], rest[room - 7 :]
            kind = {(False, False): 1, (False, True): 2, (True, True): 3, (True, False): 4}[begun, bool(rest)]
            checksum = zlib.crc32(bytes([kind]) + part)
            log += struct.pack("<IHB", checksum, len(part), kind) + part
            begun = True
            if not rest:
                break
    return bytes(log)


def read(content: bytes):
    return read_run(("run-made.wandb", content))


def notes(run) -> str:
    return " ".join(run.notes)


def expected() -> dict[int, dict[str, float]]:
    """Step -> what was logged last of it, all calls together."""
    steps: dict[int, dict[str, float]] = {}
    for part, of_part in enumerate(wandb_logged.PARTS):
        for step in of_part:
            steps[step] = {}
            for call in wandb_logged.logged(step, part):
                steps[step] |= call
    return steps


def test_what_a_real_offline_run_logged_comes_back():
    (log,) = found_runs(FOLDER)
    assert log == LATER, "the parts of a resumed run are one run"
    run = read_run(FOLDER)
    wanted = expected()
    curves = run.layers[None]
    assert run.name == "gate of layer 15" and run.format == "published" and run.skipped == 0
    assert curves.steps.tolist() == list(range(1, 21))
    for column, name in {
        "total": "total_loss",
        "loss/direct": "direct_mlp_loss",
        "loss/fidelity": "fidelity_loss",
        "loss/regularisation": "regularization_loss",
        "learning_rate": "learning_rate",
        "grad_norm": "grad_norm",
    }.items():
        values = [wanted[step][name] for step in range(1, 21)]
        np.testing.assert_array_equal(
            curves.columns[column], [v if math.isfinite(v) else math.nan for v in values]
        )
    assert curves.columns["extra.deep.x"].tolist() == list(range(1, 21)), "nested, under train/"
    assert run.layers[14].columns["batch norm/v_a"].tolist() == [3.0 + step for step in range(1, 21)]
    assert [v.tolist() for v in curves.measured("heldout/total")] == [
        [5, 10, 15, 20],
        [1.0, 0.5, 5 / 15, 0.25],
    ]
    assert not {"flag", "words", "nothing", "histogram.bins"} & set(run.columns)
    assert "from 12 back to 9" in notes(run) and "0.0 on 2 of" in notes(run)
    seconds = curves.columns["seconds"]
    assert np.isfinite(seconds).all() and (seconds > 0).all()


def test_the_config_of_a_real_run_is_its_settings_and_weighs_its_losses():
    run = read_run(FOLDER)
    assert run.settings == wandb_logged.CONFIG | wandb_logged.LATER
    curves = run.layers[None]
    np.testing.assert_allclose(
        curves.columns["weighted/fidelity"][8:], 0.1 * curves.columns["loss/fidelity"][8:]
    )
    assert curves.columns["tokens"].tolist() == [step * 2 * 73 * 5 for step in range(1, 21)]
    assert files_of(LATER) == [LATER, EARLIER]


def test_the_first_part_alone_is_what_was_logged_before_the_interruption():
    run = read_run(EARLIER)
    assert run.layers[None].steps.tolist() == list(range(1, 13))
    assert run.layers[None].columns["loss/direct"].tolist() == [2.0 / step for step in range(1, 13)]


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.97])
def test_a_run_that_is_still_written_is_read_as_far_as_it_goes(kept):
    content = EARLIER.read_bytes()
    run = read(content[: int(kept * len(content))])
    steps = run.layers[None].steps
    assert steps.tolist() == list(range(1, len(steps) + 1)) and 0 < len(steps) <= 12
    assert run.layers[None].columns["loss/direct"].tolist() == [2.0 / step for step in steps]
    assert run.skipped == 1 and "not finished" in notes(run)


def test_a_record_with_a_wrong_checksum_is_left_out_and_named():
    records = [config(batch_size=2), *(history(step, total_loss=float(step)) for step in range(1, 8))]
    content = bytearray(log_of(*records))
    content[len(log_of(*records[:4])) + 10] ^= 1
    run = read(bytes(content))
    assert run.layers[None].steps.tolist() == [1, 2, 3, 5, 6, 7]
    assert run.skipped == 1 and "record 5 (a wrong checksum)" in notes(run)


def test_records_longer_than_a_block_are_put_together_and_a_damaged_block_costs_no_more_than_it_holds():
    long = "x" * (2 * BLOCK + 11)
    records = [history(step, total_loss=step + 0.5, text=long) for step in range(1, 12)]
    content = log_of(*records)
    assert len(content) > 20 * BLOCK
    assert read(content).layers[None].columns["total"].tolist() == [step + 0.5 for step in range(1, 12)]
    damaged = content[: 5 * BLOCK] + b"\x55" * BLOCK + content[6 * BLOCK :]
    steps = read(damaged).layers[None].steps.tolist()
    assert 3 not in steps and len(steps) >= 9


def test_a_step_that_the_training_logs_is_taken_before_the_counter_of_calls():
    records = [
        history(0, _step=0, total_loss=1.0, global_step=100),
        history(1, _step=1, val_loss=9.0),
        history(2, _step=2, total_loss=2.0, global_step=200),
    ]
    curves = read(log_of(*records)).layers[None]
    assert curves.steps.tolist() == [100, 200]
    assert curves.measured("heldout/total")[0].tolist() == [100]


def test_a_resumed_part_whose_counter_began_anew_is_counted_on(tmp_path):
    began = made_of((17, made_of((1, b"abc"), (24, 1))))
    for when, content in {
        "20260101_000000": log_of(*(history(step, total_loss=step + 1.0) for step in range(4))),
        "20260102_000000": log_of(began, *(history(step, total_loss=step + 50.0) for step in range(3))),
    }.items():
        folder = tmp_path / "wandb" / f"offline-run-{when}-abc"
        folder.mkdir(parents=True)
        (folder / "run-abc.wandb").write_bytes(content)
    run = read_run(tmp_path)
    assert run.layers[None].steps.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert run.layers[None].columns["total"].tolist() == [1, 2, 3, 4, 50, 51, 52]
    assert "counted on from 4" in notes(run) and "back to" not in notes(run)


@pytest.mark.parametrize("typed", [(6, struct.pack("<d", 0.375)), (5, 2 * 7 - 1)])
def test_numbers_of_newer_kinds_of_item_are_read(typed):
    number, content = typed
    value = varint(number << 3 | (1 if number == 6 else 0)) + (content if number == 6 else varint(content))
    of_item = made_of((1, b"total_loss")) + value
    record = made_of((2, made_of((1, of_item), (2, made_of((1, 3))))))
    assert read(log_of(record)).layers[None].columns["total"].tolist() == [0.375 if number == 6 else -7.0]


def test_the_command_line_says_what_the_config_does_not_and_where_they_differ(tmp_path):
    arguments = ["train.py", "--np-rank", "256", "--layer_idx=15", "--robust"]
    environment = made_of((26, made_of(*((6, each.encode()) for each in arguments))))
    content = log_of(config(np_rank=64, batch_size=4), environment, history(1, total_loss=1.0))
    run = read(content)
    assert run.settings["np_rank"] == 64 and list(run.layers) == [15]
    assert run.settings["command line"] == {"np_rank": 256, "layer_idx": 15, "robust": True}
    assert "np_rank 256 (config: 64)" in notes(run)
    # Older versions keep the command line in a file beside.
    folder = tmp_path / "run-20240101_000000-old"
    (folder / "files").mkdir(parents=True)
    (folder / "files/wandb-metadata.json").write_text(json.dumps({"args": ["--layer_idx", "3"]}))
    (folder / "run-old.wandb").write_bytes(log_of(history(1, total_loss=1.0)))
    assert list(read_run(folder).layers) == [3]


def test_a_config_value_that_is_removed_is_gone_and_one_inside_another_is_set():
    removed = made_of((5, made_of((2, made_of((1, b"old"))))))
    nested = made_of((5, made_of((1, item(("loss", "fidelity_weight"), 0.5)))))
    run = read(log_of(config(old=1, loss={"direct": 1}), nested, removed, history(1, total_loss=1.0)))
    assert run.settings == {"loss": {"direct": 1, "fidelity_weight": 0.5}}


@pytest.mark.parametrize("value", [None, 3, "text", [1]])
def test_of_a_config_value_and_a_later_one_inside_it_the_later_is_taken(value):
    inner = made_of((5, made_of((1, item(("m", "x"), 1)))))
    removed = made_of((5, made_of((2, made_of((2, b"m"), (2, b"x"))))))
    assert read(log_of(config(m=value), inner, history(1, total_loss=1.0))).settings == {"m": {"x": 1}}
    assert read(log_of(config(m=value), removed, history(1, total_loss=1.0))).settings == {"m": value}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no run of Weights & Biases"),
        (b"PK\3\4 not ours", "is no run of Weights & Biases"),
        (b":W&B", "are cut off"),
        (b":W&B\xe1\xbe\x07" + b"x" * 50, "a version of W&B's log"),
        (b":W&B\xe1\xbe\x00", "none of its 0 records is a step"),
        (b":W&B\xe1\xbe\x00" + b"\xff" * 100_000, "record 1 is a length beyond its block"),
        (log_of(config(batch_size=2)), "none of its 1 records is a step"),
        (log_of(b"\xff" * 30), "record 1 is no message of W&B"),
        (log_of(made_of((2, b"\x0a" + varint(2**62)))), "record 1 is no message of W&B"),
    ],
)
def test_a_file_that_is_no_run_is_a_sentence(content, sentence):
    with pytest.raises(NptVizError) as error:
        read(content)
    assert sentence in str(error.value) and "run-made.wandb" in str(error.value)


def test_a_record_without_an_end_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("npt_viz.runs.records.MOST_RECORD", 3 * BLOCK)
    content = log_of(history(1, total_loss=1.0, text="x" * (9 * BLOCK)), history(2, total_loss=2.0))
    run = read(content)
    assert run.layers[None].steps.tolist() == [2] and run.skipped == 1


def test_deep_and_odd_values_are_passed_over():
    deep = made_of((5, made_of((1, made_of(*((2, b"a"),) * 5000, (16, b"1"))))))
    odd = made_of((2, made_of((1, made_of((1, b"total_loss"), (16, b"[" * 100_000))), (2, made_of((1, 1))))))
    huge = history(2, total_loss=1.0, **{"n" * 300: 1.0})
    run = read(log_of(deep, odd, huge))
    assert run.layers[None].steps.tolist() == [2] and run.columns == ["total"]


def test_messages_are_read_as_protobuf_writes_them():
    message = (
        made_of((1, 300), (15, b"abc")) + varint(3 << 3 | 5) + b"1234" + varint(4 << 3 | 1) + b"12345678"
    )
    assert list(fields(message)) == [(1, 300), (15, b"abc"), (3, b"1234"), (4, b"12345678")]
    for broken in (b"\x80", b"\x0a\x05abc", b"\x0b", b"\xff" * 11, varint(1 << 3 | 5) + b"12"):
        with pytest.raises(ValueError):
            list(fields(broken))


@given(st.binary(max_size=400), st.integers(0, 11_000), st.integers(1, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_content_is_more_than_a_run_or_a_sentence(tail, place, flipped):
    content = bytearray(EARLIER.read_bytes())
    content[place % len(content)] ^= flipped
    for each in (
        bytes(content),
        b":W&B\xe1\xbe\x00" + tail,
        log_of(tail),
        log_of(made_of((2, tail), (5, tail))),
    ):
        try:
            runs = read_runs(("run-made.wandb", each))
        except NptVizError as error:
            assert "run-made.wandb" in str(error)
        else:
            assert all(run.layers for run in runs)


def test_parts_of_one_second_are_in_their_order_and_other_runs_are_not_parts(tmp_path):
    for folder, value in {
        "offline-run-20260101_000000-abc": 1.0,
        "offline-run-20260101_000000-abc-1": 2.0,
        "run-20260101_000001-abc": 3.0,
        "offline-run-20260101_000000-abcd": 9.0,
    }.items():
        identity = "abcd" if folder.endswith("abcd") else "abc"
        (tmp_path / folder).mkdir()
        step = int(value)
        (tmp_path / folder / f"run-{identity}.wandb").write_bytes(log_of(history(step, total_loss=value)))
    files = files_of(tmp_path / "run-20260101_000001-abc" / "run-abc.wandb")
    assert [file.parent.name[-5:] for file in files] == ["1-abc", "0-abc", "abc-1"]
    assert read_run(files[0]).layers[None].columns["total"].tolist() == [1, 2, 3]
    assert len(read_run(tmp_path / "offline-run-20260101_000000-abcd").layers[None].steps) == 1


def test_a_run_folder_copied_elsewhere_is_read_by_its_file(tmp_path):
    shutil.copy(LATER, tmp_path / "copied.wandb")
    assert read_run(tmp_path / "copied.wandb").layers[None].steps.tolist() == list(range(9, 21))
