import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mowst import MLP, LearnedGate, Mowst, build_expert
from mowst.sealed import read_sealed, write_sealed

TENSORS = {
    "weight": torch.tensor([0.5, -1.0]),
    "count": torch.tensor(3),
    "mask": torch.tensor([True]),
    "none": torch.ones(0),
}


def outcome(path, read):
    r"""Returns what a reader finds, or None if it reports that the file is invalid."""
    try:
        return read(path)
    except ValueError as error:
        assert str(path) in str(error)
        return None


def test_text_and_tensors_come_back_in_their_types(tmp_path):
    shared = torch.arange(6.0)
    tensors = TENSORS | {
        "half": torch.ones(2, dtype=torch.bfloat16),
        "all": shared,
        "view": shared.view(2, 3).t(),
    }
    write_sealed(tmp_path / "file", "form-1", "text: ä", tensors)
    text, found = read_sealed(tmp_path / "file", "form-1")
    assert text == "text: ä" and found.keys() == tensors.keys()
    assert all(
        found[key].dtype == value.dtype and found[key].equal(value)
        for key, value in tensors.items()
    )


def test_no_flipped_bit_and_no_cut_is_a_silent_wrong_answer(tmp_path):
    path = tmp_path / "file"
    write_sealed(path, "form-1", '{"a": 1}', TENSORS)
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), 7):  # in every byte, and every bit of some
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert outcome(path, lambda path: read_sealed(path, "form-1")) is None, bit
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        assert outcome(path, lambda path: read_sealed(path, "form-1")) is None, size
    path.write_bytes(content + b"\0")
    assert outcome(path, lambda path: read_sealed(path, "form-1")) is None


def test_another_form_and_another_seal_are_refused(tmp_path):
    path = tmp_path / "file"
    write_sealed(path, "form-1", "", {})
    with pytest.raises(
        ValueError, match="file is of the format 'form-1', not 'form-2': another version"
    ):
        read_sealed(path, "form-2")
    for metadata in ({"format": "form-1"}, {"format": "form-1", "text": "", "crc32": "0"}):
        save_file(TENSORS, path, metadata=metadata)
        with pytest.raises(ValueError, match="file is damaged: its checksum"):
            read_sealed(path, "form-1")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_sealed(tmp_path / "nowhere", "form-1")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    sizes = {"in_channels": 3, "hidden_channels": 4, "num_layers": 2, "out_channels": 2}
    model = Mowst(MLP(**sizes), build_expert("gcn", **sizes), LearnedGate(4))
    model.save(path := tmp_path_factory.mktemp("saved") / "model.safetensors")
    return path, path.read_bytes(), model.state_dict()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_model_is_said_to_be_damaged(saved, where, mask, cut):
    path, content, state = saved
    at = int(where * len(content))
    path.write_bytes(
        content[:at] if cut else content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]
    )
    if (model := outcome(path, Mowst.load)) is not None:
        for name, value in model.state_dict().items():
            assert (
                torch.equal(value, state[name])
                if isinstance(value, torch.Tensor)
                else value == state[name]
            )
