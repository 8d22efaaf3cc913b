from concurrent.futures import ThreadPoolExecutor

import torch

from mowst.graph.memo import TensorMemo


def counting(memo):
    built = []

    def get(*tensors, extra=None):
        return memo.get(tensors, lambda: built.append(1) or object(), extra)

    return get, built


def test_same_tensors_build_once():
    get, built = counting(TensorMemo())
    x, y = torch.zeros(3), torch.zeros(3)
    assert get(x, None) is get(x, None)
    assert get(x, y) is get(x, y)
    assert get(x, None, extra=1) is not get(x, None)
    assert len(built) == 3


def test_change_in_place_builds_again():
    get, built = counting(TensorMemo())
    x = torch.zeros(3)
    first = get(x)
    x[0] = 1
    assert get(x) is not first
    assert get(x) is get(x)
    assert len(built) == 2


def test_entries_die_with_their_tensors():
    memo = TensorMemo()
    get, _ = counting(memo)
    x, y = torch.zeros(3), torch.zeros(3)
    get(x)
    get(x, y)
    assert len(memo) == 2
    del y
    assert len(memo) == 1
    del x
    assert len(memo) == 0


def test_oldest_entry_leaves_a_full_memo():
    memo = TensorMemo(size=2)
    get, built = counting(memo)
    tensors = [torch.zeros(1) for _ in range(3)]
    for tensor in tensors:
        get(tensor)
    assert len(memo) == 2
    get(tensors[2])
    assert len(built) == 3
    get(tensors[0])
    assert len(built) == 4


def test_inference_tensors_are_never_remembered():
    memo = TensorMemo()
    get, built = counting(memo)
    with torch.inference_mode():
        x = torch.zeros(3)
    assert get(x) is not get(x)
    assert len(built) == 2 and len(memo) == 0


def test_value_built_in_inference_mode_can_be_trained_on():
    x = torch.ones(3)
    with torch.inference_mode():
        value = TensorMemo().get((x,), lambda: 2 * x)
    weight = torch.ones(3, requires_grad=True)
    (weight * value).sum().backward()
    assert weight.grad.equal(2 * x)


def test_threads_whose_tensors_die_meanwhile():
    memo, kept = TensorMemo(size=3), torch.arange(5.0)

    def act(number):
        for k in range(300):
            value = torch.full((2,), float(number + 10 * k))
            assert memo.get((value,), value.sum).item() == 2 * (number + 10 * k)
            assert memo.get((kept,), kept.sum).item() == 10

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(act, range(10)))
    assert len(memo) <= 3
