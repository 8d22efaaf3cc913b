import pytest
from optuna import pruners, samplers

from mowst.study.samplers import make_pruner, make_sampler


def test_samplers_and_pruners_by_name():
    assert isinstance(make_sampler("tpe"), samplers.TPESampler)
    assert isinstance(make_sampler("nsga2"), samplers.NSGAIISampler)
    assert isinstance(make_sampler("random"), samplers.RandomSampler)
    assert isinstance(make_pruner("median"), pruners.MedianPruner)
    assert isinstance(make_pruner("halving"), pruners.SuccessiveHalvingPruner)
    assert isinstance(make_pruner("none"), pruners.NopPruner)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'cma', choose from tpe, nsga2, random"):
        make_sampler("cma")
    with pytest.raises(ValueError, match="'wilcoxon', choose from median, halving, none"):
        make_pruner("wilcoxon")
