import random

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import ParameterGrid

from mowst import TrainConfig, fit, seed_everything
from mowst.estimator import MODEL_SETTINGS, TRAIN_SETTINGS, MowstClassifier
from mowst.nn.build import ModelConfig, build_model
from mowst.task import GraphTask

SHORT = {"hidden_channels": 8, "epochs": 3, "rounds": 0, "random_state": 0}


@pytest.fixture
def classifier():
    return MowstClassifier(**SHORT)


def test_fits_and_predicts_as_the_functions_do(data, classifier):
    prob = classifier.fit(data).predict_proba(data)
    seed_everything(0)
    task = GraphTask.from_data(data)
    model = build_model(ModelConfig(hidden_channels=8), in_channels=6, out_channels=3)
    result = fit(model, task, config=TrainConfig(epochs=3, rounds=0))
    assert isinstance(prob, np.ndarray) and prob.shape == (30, 3)
    assert np.array_equal(prob, model.predict_proba(data).numpy())
    assert np.array_equal(classifier.predict(data), model.predict(data).numpy())
    assert classifier.score(data) == classifier.result_.test == result.test
    assert classifier.classes_.tolist() == [0, 1, 2] and classifier.n_features_in_ == 6


def test_predicts_a_graph_without_labels_and_masks(data, classifier):
    wanted = classifier.fit(data).predict_proba(data)
    for key in ("y", "train_mask", "val_mask", "test_mask"):
        del data[key]
    data.x = data.x.double()
    assert np.array_equal(classifier.predict_proba(data), wanted)


def test_parameters_are_those_of_the_configs():
    defaults = MowstClassifier().get_params()
    model, train = ModelConfig(), TrainConfig()
    assert {name: defaults.pop(name) for name in MODEL_SETTINGS} == {
        name: getattr(model, name) for name in MODEL_SETTINGS
    }
    assert {name: defaults.pop(name) for name in TRAIN_SETTINGS} == {
        name: getattr(train, name) for name in TRAIN_SETTINGS
    }
    assert defaults == {"method": "mowst", "random_state": None}


def test_clones_are_not_fitted_and_fit_alike(data, classifier):
    prob = classifier.fit(data).predict_proba(data)
    copy = clone(classifier)
    assert is_classifier(copy) and copy.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(data)
    assert np.array_equal(copy.fit(data).predict_proba(data), prob)
    assert np.array_equal(classifier.fit(data).predict_proba(data), prob)
    assert repr(copy) == "MowstClassifier(epochs=3, hidden_channels=8, random_state=0, rounds=0)"


def test_settings_are_compared_in_a_loop(data, classifier):
    scores, grid = [], ParameterGrid({"strong": ["gcn", "linkx"], "method": ["mowst", "strong"]})
    for settings in grid:
        fitted = clone(classifier).set_params(**settings).fit(data)
        assert fitted.result_.method == settings["method"]
        scores.append(fitted.result_.val)
    assert len(set(scores)) > 1


def test_a_seed_leaves_the_global_generators_as_they_were(data, classifier):
    def draw():
        return random.random(), np.random.rand(), float(torch.rand(()))

    seed_everything(5)
    wanted = draw()
    seed_everything(5)
    classifier.fit(data)
    assert draw() == wanted
    probs = [MowstClassifier(**SHORT | {"random_state": None}).fit(data) for _ in range(2)]
    first, second = [fitted.predict_proba(data) for fitted in probs]
    assert not np.array_equal(first, second)
