import json
import threading

import pytest

from mowst.study.lines import append_line, claim, read_lines, read_runs, select_newest

LINES = [
    {"id": "a", "test": 0.1, "text": "\u2028 ü \n"},
    {"id": "b", "test": None},
    {"id": "a", "test": 0.3},
]


@pytest.fixture
def path(tmp_path):
    for line in LINES:
        append_line(tmp_path / "results.jsonl", line)
    return tmp_path / "results.jsonl"


def test_lines_are_read_as_they_were_appended(path, tmp_path):
    assert read_lines(path) == LINES
    assert read_lines(tmp_path / "none.jsonl") == []


def test_the_newest_line_of_an_id_counts(path):
    assert select_newest(read_lines(path)) == [LINES[2], LINES[1]]


def test_a_line_cut_off_anywhere_is_ignored_and_removed_and_nothing_else_is_lost(path):
    content = path.read_bytes()
    start = content[:-1].rindex(b"\n") + 1
    for end in range(start, len(content)):
        path.write_bytes(content[:end])
        assert read_lines(path) == LINES[:2]
        append_line(path, {"id": "c"})
        assert read_lines(path) == [*LINES[:2], {"id": "c"}]


def test_a_file_of_one_cut_off_line_is_repaired(path):
    path.write_bytes(b'{"id": "a"')
    assert read_lines(path) == []
    append_line(path, LINES[1])
    assert read_lines(path) == [LINES[1]]


def test_a_damaged_whole_line_is_named(path):
    path.write_text('{"id": "a"}\n{"id": \n{"id": "b"}\n')
    with pytest.raises(ValueError, match="results.jsonl, line 2 is damaged"):
        read_lines(path)


@pytest.mark.parametrize(
    ("line", "told"),
    [("{}", "it lacks id, it lacks name"), ("[]", r"it is \[\]"), ("5", "it is 5")],
)
def test_a_line_that_is_no_run_is_named(tmp_path, make_line, line, told):
    (tmp_path / "results.jsonl").write_text(f"{json.dumps(make_line())}\n{line}\n")
    with pytest.raises(ValueError, match=f"results.jsonl, line 2 is not a run: {told}"):
        read_runs(tmp_path)


@pytest.mark.parametrize("key", ["seconds", "settings", "route", "test"])
def test_a_line_of_another_version_is_ignored_by_a_study_and_named_by_a_report(
    tmp_path, make_line, key
):
    line = make_line(brand_new={"a": 1})
    line["environment"] = {"versions": {"mowst": "99.0"}}
    (tmp_path / "results.jsonl").write_text(json.dumps(line) + "\n")
    assert read_runs(tmp_path, reported=True) == [line]
    del line[key]
    (tmp_path / "results.jsonl").write_text(json.dumps(line) + "\n")
    assert read_runs(tmp_path) == [line]
    with pytest.raises(ValueError, match=f"line 1 is not a run: it lacks {key}; mowst 99.0 wrote"):
        read_runs(tmp_path, reported=True)
    (tmp_path / "results.jsonl").write_text(json.dumps({**line, key: [1]}) + "\n")
    with pytest.raises(ValueError, match=rf"line 1 is not a run: its {key} is \[1\]"):
        read_runs(tmp_path, reported=True)


def test_what_is_no_text_is_named(path):
    path.write_bytes(b'{"id": "a"}\n\xff\xfe\x00\n')
    with pytest.raises(ValueError, match="results.jsonl holds no lines of JSON"):
        read_lines(path)


def test_many_writers_lose_nothing(tmp_path):
    path = tmp_path / "results.jsonl"

    def write(writer):
        for k in range(20):
            append_line(path, {"id": f"{writer}-{k}", "padding": "x" * 5000})

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert {line["id"] for line in read_lines(path)} == {
        f"{writer}-{k}" for writer in range(4) for k in range(20)
    }


def test_a_claim_is_one_holders_until_it_ends(tmp_path):
    path = tmp_path / "a.lock"
    with claim(path) as first:
        with claim(path) as second, claim(tmp_path / "b.lock") as other:
            assert (first, second, other) == (True, False, True)
        with claim(path) as third:
            assert not third, "a claim that was refused must not end the one that holds"
    with pytest.raises(RuntimeError), claim(path) as mine:
        assert mine
        raise RuntimeError
    with claim(path) as again:
        assert again
