from dataclasses import asdict

import optuna
import pytest

from mowst.study.best import best_row, rank_best
from mowst.study.objective import Search
from mowst.study.storage import open_storage

FLOAT = optuna.distributions.FloatDistribution(0, 1)


@pytest.fixture
def make_study(tmp_path):
    r"""Makes the study of a sweep from the values of its trials. Trial k has the lr k / 10."""

    def make(*values, search=None):
        directions = ["maximize", "minimize"][: len(values[0])]
        storage = open_storage(f"{tmp_path}/s.log")
        study = optuna.create_study(storage=storage, directions=directions)
        second = "deferred_share" if len(directions) > 1 else None
        made = Search("cora", "gcn", "mowst", "default", 1, None, {"epochs": 3}, [], second)
        study.set_user_attr("search", asdict(made) if search is None else search)
        for number, found in enumerate(values):
            params = {"lr": number / 10}
            known = {"params": params, "distributions": {"lr": FLOAT}}
            study.add_trial(optuna.create_trial(values=list(found), **known))
        return study, f"{tmp_path}/s.log"

    return make


def test_the_best_of_one_objective_is_the_highest(make_study):
    study, place = make_study((0.1,), (0.3,), (0.2,))
    assert [trial.number for trial in rank_best(study)] == [1]
    assert best_row(place) == {
        "data": "cora",
        "strong": "gcn",
        "method": "mowst",
        "epochs": 3,
        "lr": 0.1,
    }


def test_the_front_of_two_objectives_has_every_trial_that_none_exceeds_in_both(make_study):
    study, place = make_study((0.6, 0.0), (0.7, 0.5), (0.9, 0.8), (0.65, 0.6))
    assert [trial.number for trial in rank_best(study)] == [2, 1, 0]
    assert best_row(place)["lr"] == 0.2
    assert best_row(place, trial=1)["lr"] == 0.1
    with pytest.raises(ValueError, match="trial 9 of the study .* is not complete; .* trial 2"):
        best_row(place, trial=9)


@pytest.mark.parametrize("search", ["mine", {"data": "cora"}, [], {}])
def test_what_another_program_calls_a_search_is_no_sweep(make_study, search):
    _, place = make_study((0.1,), search=search)
    with pytest.raises(ValueError, match="was not made by a sweep of this version"):
        best_row(place)


def test_what_a_later_version_searches_is_refused(make_study):
    made = Search("cora", "gcn", "mowst", "default", 1, None, {}, [])
    _, place = make_study((0.1,), search={**asdict(made), "new": 1})
    with pytest.raises(ValueError, match="was not made by a sweep of this version"):
        best_row(place)


def test_a_study_of_the_version_before_is_read(make_study):
    made = asdict(Search("cora", "gcn", "mowst", "default", 1, None, {}, []))
    del made["second_objective"]
    _, place = make_study((0.1,), search=made)
    assert best_row(place)["lr"] == 0
