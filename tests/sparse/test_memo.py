from concurrent.futures import ThreadPoolExecutor

import torch

from mowst.sparse.memo import ContentMemo


def count_builds(memo):
    built = []

    def get(*tensors, extra=None):
        return memo.get(tensors, lambda *copies: built.append(copies) or object(), extra)

    return get, built


def test_equal_content_builds_once():
    get, built = count_builds(ContentMemo())
    x, y = torch.zeros(3), torch.ones(3)
    assert get(x, None) is get(x.clone(), None)
    assert get(x, y) is get(x, y)
    assert get(x, None, extra=1) is not get(x, None)
    for other in (torch.zeros(4), torch.zeros(3, dtype=torch.double), torch.zeros(1, 3), y):
        assert get(other, None) is not get(x, None)
    assert len({id(copies) for copies in built}) == len(built)


def test_a_change_is_seen_however_it_is_made():
    get, built = count_builds(ContentMemo(size=10))
    x = torch.zeros(3)
    changes = [
        lambda: x.add_(1),
        lambda: x.data.mul_(3),
        lambda: x.numpy().__setitem__(0, 7),
        lambda: x.set_(torch.full((3,), 9.0)),
    ]
    seen = [get(x)]
    for change in changes:
        change()
        seen.append(get(x))
    assert len(set(map(id, seen))) == 5 and len(built) == 5
    x.zero_()
    assert get(x) is seen[0]


def test_values_are_built_from_copies():
    memo, x = ContentMemo(), torch.zeros(3)
    value = memo.get((x,), lambda copy: copy)
    x += 1
    assert value.equal(torch.zeros(3)) and memo.get((torch.zeros(3),), lambda copy: copy) is value


def test_the_entry_that_was_used_longest_ago_is_dropped():
    memo = ContentMemo(size=2)
    get, built = count_builds(memo)
    tensors = [torch.full((1,), float(k)) for k in range(3)]
    get(tensors[0]), get(tensors[1]), get(tensors[0]), get(tensors[2])
    assert len(memo) == 2 and len(built) == 3
    get(tensors[0])
    assert len(built) == 3
    get(tensors[1])
    assert len(built) == 4


def test_a_value_built_in_inference_mode_can_be_trained_on():
    with torch.inference_mode():
        x = torch.ones(3)
        value = ContentMemo().get((x,), lambda copy: 2 * copy)
    weight = torch.ones(3, requires_grad=True)
    (weight * value).sum().backward()
    assert weight.grad.equal(torch.full((3,), 2.0))


def test_threads_get_the_value_of_their_own_tensors():
    memo, kept = ContentMemo(size=3), torch.arange(5.0)

    def act(number):
        for k in range(100):
            value = torch.full((2,), float(number + 10 * k))
            assert memo.get((value,), torch.sum).item() == 2 * (number + 10 * k)
            assert memo.get((kept,), torch.sum).item() == 10

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(act, range(10)))
    assert len(memo) <= 3
