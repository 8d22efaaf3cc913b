import math
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mowst.train.checkpoint import read_checkpoint, write_checkpoint

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=50)
@given(tree=TREES)
def test_a_checkpoint_reads_what_was_written(tree, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "tree.safetensors"
    write_checkpoint(path, tree)
    assert same(read_checkpoint(path), tree)


def test_tensors_of_every_type_are_read_back(tmp_path):
    shared = torch.arange(6.0)
    tree = {
        "shared": [shared, shared.view(2, 3), shared[::2]],
        "kinds": (
            torch.tensor(3),
            torch.zeros(0, 2),
            torch.tensor([True]),
            torch.ones(2, dtype=torch.bfloat16),
        ),
        "infinite": (math.inf, -math.inf),
        0: torch.get_rng_state(),
    }
    write_checkpoint(tmp_path / "c", tree)
    assert same(read_checkpoint(tmp_path / "c"), tree)


def test_every_flipped_byte_and_every_truncation_is_detected(tmp_path):
    path = tmp_path / "c"
    write_checkpoint(path, {"weights": torch.arange(4.0), "epoch": 7})
    content = path.read_bytes()
    tree = read_checkpoint(path)
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        try:
            assert same(read_checkpoint(path), tree), f"byte {at} was flipped and not detected"
        except ValueError as error:
            assert str(path) in str(error)
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="damaged"):
            read_checkpoint(path)


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle was executed')",)


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    (tmp_path / "c").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        read_checkpoint(tmp_path / "c")
    torch.save({"a": Trap()}, tmp_path / "d")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        read_checkpoint(tmp_path / "d")


def test_other_types_are_refused_and_the_older_file_stays(tmp_path):
    write_checkpoint(tmp_path / "c", 1)
    with pytest.raises(TypeError, match="not Trap"):
        write_checkpoint(tmp_path / "c", [Trap()])
    assert read_checkpoint(tmp_path / "c") == 1 and len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_that_was_read_is_not_mapped(tmp_path):
    # The next checkpoint replaces it, which Windows refuses for mapped files.
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux lists mapped files")
    write_checkpoint(tmp_path / "mapped.safetensors", {"weight": torch.ones(10_000)})
    tree = read_checkpoint(tmp_path / "mapped.safetensors")
    assert tree["weight"].sum() == 10_000 and "mapped.safetensors" not in maps.read_text()
