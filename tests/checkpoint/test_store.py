"""Files are read safely and lazily: nothing in them runs, damage is a sentence, one layer costs one layer."""

import argparse
import builtins
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from handmade import S2, format_a, format_b
from safetensors.torch import save_file

from npt_viz import NptVizError, open_checkpoint


class Malicious:
    """Unpickled without care, it calls `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def payloads(marker: Path):
    command = f"open({str(marker)!r}, 'w').close()"
    yield Malicious(os.system, f"touch {marker}")
    yield Malicious(builtins.exec, command)
    yield Malicious(builtins.eval, command)


WRAPPERS = {
    "itself": lambda payload: payload,
    "a value": lambda payload: format_a(1) | {"extra": payload},
    "in the state dict": lambda payload: {"state_dict": format_a(1) | {"x": payload}, "config": {}},
    "in the config": lambda payload: {"state_dict": format_a(1), "config": {"rank": payload}},
}
WRITERS = {
    "torch zip": torch.save,
    "torch legacy": lambda content, file: torch.save(content, file, _use_new_zipfile_serialization=False),
    "plain pickle": lambda content, file: file.write_bytes(pickle.dumps(content, protocol=2)),
}


@pytest.mark.parametrize("which", range(3), ids=["system", "exec", "eval"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_malicious_pickle_is_refused_and_never_runs(tmp_path, which, wrapper, writer):
    marker = tmp_path / "it_ran"
    payload = list(payloads(marker))[which]
    WRITERS[writer](WRAPPERS[wrapper](payload), tmp_path / "npt_weights.pt")
    with pytest.raises(NptVizError, match=r"npt_weights\.pt"):
        open_checkpoint(tmp_path)
    assert not marker.exists()


def test_the_payloads_would_run_elsewhere(tmp_path):
    """Otherwise the test above could not fail."""
    marker = tmp_path / "it_ran"
    for payload in payloads(marker):
        pickle.loads(pickle.dumps(payload))
        assert marker.exists()
        marker.unlink()


def test_a_refused_pickle_says_what_it_asked_for(tmp_path):
    torch.save({"x": Malicious(os.system, "true")}, tmp_path / "npt_weights.pt")
    with pytest.raises(NptVizError, match=r"asks for \w+\.system.*nothing of it was run"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("hidden", ["beside args", "in args"])
def test_the_allowed_namespace_lets_nothing_else_in(tmp_path, hidden):
    marker = tmp_path / "it_ran"
    payload = Malicious(os.system, f"touch {marker}")
    info = {"step": 1, "args": argparse.Namespace(modulation_scale=0.2)}
    if hidden == "in args":
        info["args"].sneaky = payload
    else:
        info["more"] = payload
    save_file(format_b(1, S2), tmp_path / "model.safetensors")
    torch.save(info, tmp_path / "training_info.pt")
    with pytest.raises(NptVizError, match=r"training_info\.pt: refused"):
        open_checkpoint(tmp_path)
    assert not marker.exists()


def test_a_namespace_is_allowed_in_training_info_only(tmp_path):
    torch.save(format_a(1) | {"args": argparse.Namespace(x=1)}, tmp_path / "npt_weights.pt")
    with pytest.raises(NptVizError, match=r"argparse\.Namespace"):
        open_checkpoint(tmp_path)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def intact(folder: Path, kind: str) -> Path:
    file = folder / ("npt_weights.safetensors" if kind == "safetensors" else "npt_weights.pt")
    if kind == "safetensors":
        save_file(format_a(1), file)
    else:
        torch.save(format_a(1), file, _use_new_zipfile_serialization=kind == "torch zip")
    return file


@pytest.mark.parametrize("kind", ["torch zip", "torch legacy", "safetensors"])
@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_a_sentence_that_names_it(tmp_path, kind, share):
    file = intact(tmp_path, kind)
    assert open_checkpoint(file).layers == (1,)
    content = file.read_bytes()
    cut = tmp_path / "cut" / file.name
    cut.parent.mkdir()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(NptVizError) as caught:
        open_checkpoint(cut).report  # noqa: B018 - the values too
    assert str(cut) in str(caught.value) and "\n" not in str(caught.value)
    assert not re.search("(?i)header|deserializ|archive|unpickl", str(caught.value)), "words of a library"


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors", "x.bin"])
@pytest.mark.parametrize(
    "content", [b"hello", b"\x00" * 64, b"PK\x03\x04" + b"\x00" * 64, b"\xff" * 8 + b"{}", b'{"a": 1}']
)
def test_a_foreign_file_is_a_sentence_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NptVizError, match=re.escape(str(tmp_path / name))):
        open_checkpoint(tmp_path / name)


def test_a_git_lfs_pointer_says_how_to_get_the_weights(tmp_path):
    (tmp_path / "npt_weights.pt").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    with pytest.raises(NptVizError, match="git lfs pull"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [torch.ones(2, 3), [torch.ones(2)], 3])
def test_a_torch_file_without_a_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "npt_weights.pt")
    with pytest.raises(NptVizError, match="not a dict"):
        open_checkpoint(tmp_path)


def test_the_kind_of_a_file_is_told_by_its_content_not_its_name(tmp_path):
    save_file(format_a(3), tmp_path / "upload")
    assert open_checkpoint(tmp_path / "upload").layers == (3,)


@pytest.mark.parametrize("kind", ["torch zip", "safetensors"])
def test_opening_reads_no_value_and_one_layer_reads_its_own(tmp_path, kind):
    tensors = format_a(1) | format_a(2, ("gate", "up"), components=2) | format_a(4)
    file = tmp_path / "npt_weights.pt"
    (torch.save if kind == "torch zip" else save_file)(tensors, file)
    checkpoint = open_checkpoint(file)
    read = checkpoint.files.store.read_names
    assert read == []
    checkpoint.adapter(2)
    assert sorted(read) == sorted(format_a(2, ("gate", "up"), components=2))
    checkpoint.adapter(2)
    assert len(read) == 12, "a layer that is in memory is not read again"


def resident_kilobytes(file: Path) -> int:
    """How much of the maps of a file this process has touched, as the kernel counts."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(str(file))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="needs the kernel's account of mapped pages"
)
@pytest.mark.parametrize("kind", ["torch zip", "safetensors"])
def test_the_kernel_sees_one_layer_of_a_large_file_touched(tmp_path, kind):
    """Sixteen layers of 3 MB: after one layer about a sixteenth of the file is in memory."""
    d_model, d_ffn, rank = 512, 1024, 384
    shapes = {"W_down": (d_model, rank), "W_a_up": (rank, d_model), "W_b_up": (rank, d_ffn)}
    tensors = {
        f"layer_{layer}_np.{role}": torch.ones(*shape)
        for layer in range(16)
        for role, shape in shapes.items()
    }
    file = tmp_path / "npt_weights.pt"
    (torch.save if kind == "torch zip" else save_file)(tensors, file)
    whole = file.stat().st_size // 1024
    checkpoint = open_checkpoint(file)
    opened = resident_kilobytes(file)
    checkpoint.adapter(9)
    one_layer = resident_kilobytes(file)
    assert opened < whole / 32
    assert whole / 20 < one_layer < whole / 8
    checkpoint.report  # noqa: B018 - reads everything
    assert resident_kilobytes(file) > 0.9 * whole, "the account would show it"
    checkpoint.close()
    del checkpoint
    assert resident_kilobytes(file) == 0


@pytest.mark.parametrize("kind", ["torch zip", "safetensors"])
def test_a_file_that_changes_while_open_is_refused_not_mixed(tmp_path, kind):
    file = tmp_path / "npt_weights.pt"
    write = torch.save if kind == "torch zip" else save_file
    write(format_a(1) | format_a(2), file)
    checkpoint = open_checkpoint(file)
    checkpoint.adapter(1)
    file.unlink()
    write(format_a(1) | format_a(2) | format_a(3), file)
    with pytest.raises(NptVizError, match="changed since it was opened"):
        checkpoint.adapter(2)


@pytest.mark.parametrize("kind", ["torch zip", "safetensors"])
def test_a_closed_checkpoint_says_so(tmp_path, kind):
    checkpoint = open_checkpoint(intact(tmp_path, kind))
    checkpoint.close()
    checkpoint.close()
    with pytest.raises(NptVizError, match="was closed"):
        checkpoint.adapter(1)


def test_what_was_read_outlives_the_file(tmp_path):
    file = tmp_path / "npt_weights.pt"
    torch.save(format_a(1), file)
    checkpoint = open_checkpoint(file)
    weights = checkpoint.adapter(1).modulations["gate"].W_down
    checkpoint.close()
    file.unlink()
    assert torch.equal(weights[0], format_a(1)["layer_1_np.W_down"])
