import pytest

from mowst.presets import PRESETS, load_paper_tables, load_preset
from mowst.study import expand

# The published settings: data, strong expert, method, pretrained experts, whether the gate reads
# the features, width, depth, learning rate and dropout of pretraining and of the rounds of Mowst,
# learning rate and dropout of the joint stage, and weight decay.
PUBLISHED = """
flickr        gcn       mowst       strong  D    128 3  .1    .3   .01   .5   5e-4
ogbn-products gcn       mowst-star  strong  D+x  256 3  .01   .5   .01   .5   0
ogbn-arxiv    gcn       mowst-star  strong  D+x  256 3  .001  .2   .001  .5   0
penn94        gcn       mowst-star  strong  D    64  2  .1    .1   .01   .5   1e-3
pokec         gcn       mowst-star  weak    D    64  2  .1    .2   .001  .3   1e-3
twitch-gamer  gcn       mowst       none    D    64  2  .1    .2   .1    .1   1e-3
flickr        gin       mowst-star  strong  D    256 3  .001  .1   .001  .5   5e-4
ogbn-arxiv    gin       mowst-star  strong  D    256 3  .001  .1   .001  .5   0
penn94        gin       mowst-star  strong  D    12  2  .001  .5   .001  .1   1e-3
pokec         gin       mowst-star  strong  D    4   2  .01   .1   .001  .1   1e-3
twitch-gamer  gin       mowst-star  strong  D    12  2  .01   .1   .01   .5   1e-3
pokec         gin-skip  mowst-star  strong  D    64  2  .01   .1   .001  .5   1e-3
twitch-gamer  gin-skip  mowst-star  strong  D    64  2  .01   .1   .001  .1   1e-3
flickr        sage      mowst-star  both    D+x  12  3  .01   .5   .01   .5   5e-4
ogbn-products sage      mowst-star  weak    D+x  256 3  .01   .1   .01   .5   0
ogbn-arxiv    sage      mowst       strong  D    512 4  .01   .3   .01   .5   0
penn94        sage      mowst-star  strong  D+x  32  2  .01   .5   .001  .5   1e-3
pokec         sage      mowst       strong  D+x  12  2  .1    .1   .1    .1   1e-3
twitch-gamer  sage      mowst       strong  D    32  2  .01   .3   .01   .1   1e-3
"""
ROWS = [line.split() for line in PUBLISHED.strip().splitlines()]
TABLE = load_paper_tables()["mowst"]


def test_there_are_as_many_rows_as_published():
    assert sorted((row["data"], row["strong"]) for row in TABLE) == sorted(
        (r[0], r[1]) for r in ROWS
    )


@pytest.mark.parametrize("published", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_a_row_of_the_paper_has_the_published_settings(published):
    data, strong, method, pretrain, gate, width, depth, lr, drop, lrg, drg, decay = published
    (row,) = [row for row in TABLE if (row["data"], row["strong"]) == (data, strong)]
    spec = expand([row])[0]
    model, train = spec.model_config, spec.train_config
    assert (spec.method, train.pretrain) == (method, pretrain)
    assert model.gate_features == (gate == "D+x")
    assert (model.hidden_channels, model.num_layers) == (int(width), int(depth))
    assert train.weight_decay == float(decay)
    assert (model.gate, train.gate_fit, train.optimizer) == ("learned", "train", "adamw")
    later = (float(lr), float(drop)) if method == "mowst" else (float(lrg), float(drg))
    for part in ("weak", "strong"):
        first = train.merge_overrides(part, pretraining=True)
        found = first.lr, model.dropout if first.dropout is None else first.dropout
        assert found == (float(lr), float(drop))
        assert (train.merge_overrides(part).lr, model.dropout) == later
        assert train.merge_overrides(part).dropout is None


def test_a_preset_is_found_by_data_and_strong_expert():
    for row in TABLE:
        found = load_preset(row["data"], "paper", row["strong"])
        assert found.items() <= row.items()
    assert load_preset("no-data-set") == {} and "tuned" in PRESETS
    assert load_preset("penn94", "paper", "h2gcn")["method"] == "strong"
    with pytest.raises(ValueError, match="no row for flickr with gat, only for flickr with gcn, "):
        load_preset("flickr", "paper", "gat")
    with pytest.raises(ValueError, match="unknown preset 'papers', choose from"):
        load_preset("cora", "papers")


def test_the_algorithm_of_the_paper_is_one_preset_away_for_any_data():
    found = load_preset("my/graph", "paper", "gcn")
    assert (found["method"], found["gate"], found["gate_fit"]) == ("mowst", "learned", "train")
    (spec,) = expand([{"data": "digits", "preset": "paper", "method": "mowst"}])
    assert spec.train_config.gate_fit == "train" and spec.train_config.optimizer == "adamw"
    assert spec.model_config.detach_dispersion and spec.model_config.mix == "prob"
