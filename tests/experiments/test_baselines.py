import copy
import json
import sys
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.nn.utils import parameters_to_vector

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import methods
from baselines.adagcn import boost, combine, compute_hops, compute_votes, fit_adagcn
from baselines.ensemble import fit_ensemble, fit_width
from baselines.graphmoe import MIN_NOISE, GraphMoE, NoisyTopKGate, fit_graphmoe
from baselines.logit_average import average_logits, fit_logit_average
from training import count_parameters, predict, train

from mowst import TrainConfig, build_expert, fit
from mowst.nn.build import ModelConfig, build_model

CONFIG = ModelConfig(hidden_channels=8, dropout=0.3)
PLAIN = ModelConfig(hidden_channels=8, dropout=0.0)
SETTINGS = TrainConfig(epochs=6, patience=3, lr=0.02)
CHANNELS = {"in_channels": 6, "out_channels": 3}


def build_gnn(hidden_channels=8, name="gcn", dropout=0.0):
    return build_expert(name, **CHANNELS, hidden_channels=hidden_channels, dropout=dropout)


def train_alone(task, method, config=CONFIG):
    torch.manual_seed(0)
    model = build_model(config, **CHANNELS)
    fit(model, task, method=method, config=SETTINGS)
    return getattr(model, method)


@pytest.mark.parametrize("fit_baseline", methods.BASELINES.values(), ids=methods.BASELINES)
def test_a_baseline_predicts_probabilities_and_repeats_itself(task, fit_baseline):
    probs = []
    for _ in range(2):
        torch.manual_seed(0)
        prob, details = fit_baseline(task, CONFIG, SETTINGS)
        probs.append(prob)
    assert prob.shape == (30, 3) and not prob.requires_grad and details["parameters"] > 0
    torch.testing.assert_close(prob.sum(dim=1), torch.ones(30))
    assert torch.equal(*probs)


@pytest.mark.parametrize("method", ["weak", "strong"])
@pytest.mark.parametrize("select", ["calibrated", "loss", "metric"])
@pytest.mark.parametrize(
    "settings", [{"patience": 3}, {"patience": None, "optimizer": "adamw", "eval_every": 5}]
)
def test_train_is_fit_of_an_expert_to_the_bit(task, method, select, settings):
    config = TrainConfig(epochs=43, lr=0.3, select=select, **settings)
    model = build_model(CONFIG, **CHANNELS)
    module = copy.deepcopy(getattr(model, method))
    torch.manual_seed(1)
    fit(model, task, method=method, config=config)
    torch.manual_seed(1)
    train(module, task, config)
    ours = parameters_to_vector(getattr(model, method).parameters())
    assert torch.equal(parameters_to_vector(module.parameters()), ours)


def test_training_stops_at_a_nan_loss(task):
    with pytest.raises(FloatingPointError, match="nan in epoch 1"):
        train(build_gnn(), task, SETTINGS, loss=lambda logits, y: logits.sum() * float("nan"))


def test_adagcn_of_no_hops_is_the_mlp(task):
    torch.manual_seed(0)
    prob, details = fit_adagcn(task, PLAIN, SETTINGS, hops=0)
    torch.testing.assert_close(
        prob, predict(train_alone(task, "weak", PLAIN), task).softmax(dim=-1)
    )
    assert details["hops"] == 0


def test_each_base_continues_the_previous_one_and_the_best_number_of_hops_is_chosen(
    task, monkeypatch
):
    stages = []

    def recording(base, hop, settings, loss):
        start = parameters_to_vector(base.parameters())
        train(base, hop, settings, loss=loss)
        stages.append((hop, loss.keywords["weight"], start, copy.deepcopy(base)))

    monkeypatch.setattr("baselines.adagcn.train", recording)
    prob, details = fit_adagcn(task, CONFIG, SETTINGS, hops=2)
    index, y = task.index("train"), task.labels("train")
    assert torch.equal(stages[0][1], torch.full((15,), 1 / 15))
    for x, (hop, *_) in zip(compute_hops(task, hops=2), stages, strict=True):
        assert torch.equal(x, hop.data.x)
    for (hop, weight, _, base), (_, next_weight, next_start, _) in pairwise(stages):
        assert torch.equal(next_start, parameters_to_vector(base.parameters()))
        assert torch.equal(next_weight, boost(weight, predict(base, hop)[index], y))
    predictions = [predict(base, hop) for hop, _, _, base in stages]
    ensembles = [combine(predictions[: hop + 1]) for hop in range(3)]
    best = min(range(3), key=lambda hop: float(task.nll(ensembles[hop], "val")))
    assert details["hops"] == best and torch.equal(prob, ensembles[best])


def test_compute_hops_are_powers_of_the_normalised_adjacency(task):
    dense = torch.eye(30).index_put(
        (task.data.edge_index[1], task.data.edge_index[0]), torch.ones(())
    )
    root = dense.sum(dim=1).rsqrt()
    power = torch.eye(30)
    for x in compute_hops(task, hops=3):
        torch.testing.assert_close(x, power @ task.data.x)
        power = root[:, None] * dense * root @ power


def test_boosted_weights_follow_the_formula_and_stay_normalised():
    y, weight = torch.arange(7) % 4, torch.full((7,), 1 / 7)
    total = torch.zeros(7)
    for _ in range(3):
        logits = torch.randn(7, 4)
        expected = weight.clone()
        for v in range(7):
            for c, log_p in enumerate(logits[v].log_softmax(dim=0)):
                expected[v] *= torch.exp(-3 / 4 * (1 if c == y[v] else -1 / 3) * log_p)
        weight = boost(weight, logits, y)
        total += compute_votes(logits)[torch.arange(7), y]
        torch.testing.assert_close(weight, expected / expected.sum())
    torch.testing.assert_close(weight, (-total / 3).softmax(dim=0))


def test_boosting_keeps_the_weights_under_an_even_vote_and_survives_certainty():
    weight, y = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0, 1, 0])
    torch.testing.assert_close(boost(weight, torch.ones(3, 4), y), weight)
    certain = torch.tensor([1e4, 0.0, 0.0]).expand(3, -1)  # right on nodes 0 and 2
    assert torch.equal(boost(boost(weight, certain, y), certain, y), torch.tensor([0.0, 1.0, 0.0]))
    assert torch.equal(combine([certain, certain]).argmax(dim=1), torch.zeros(3, dtype=torch.long))


def test_adagcn_predicts_the_largest_summed_vote():
    predictions = [torch.randn(20, 4) for _ in range(3)]
    votes = sum(compute_votes(logits) for logits in predictions)
    assert torch.equal(combine(predictions).argmax(dim=1), votes.argmax(dim=1))
    torch.testing.assert_close(combine(predictions[:1]), predictions[0].softmax(dim=1))


@pytest.mark.parametrize("training", [True, False])
def test_graphmoe_of_one_expert_is_the_expert(task, training):
    expert = build_gnn()
    model = GraphMoE([expert], NoisyTopKGate(6, num_experts=1, k=1)).train(training)
    out = model(task.data.x, task.data.edge_index)
    torch.testing.assert_close(out, expert(task.data.x, task.data.edge_index))
    assert model.balance == 0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_exactly_k_gates_are_open_and_sum_to_one(k, training):
    gates, load = random_gate(k).train(training)(torch.randn(50, 6))
    assert ((gates > 0).sum(dim=1) == k).all()
    torch.testing.assert_close(gates.sum(dim=1), torch.ones(50))
    if not training or k == 4:
        assert torch.equal(load, (gates > 0).sum(dim=0).float()) and load.sum() == 50 * k


def test_k_lies_within_the_experts():
    with pytest.raises(ValueError, match="between 1 and the 4 experts, got 5"):
        NoisyTopKGate(6, num_experts=4, k=5)


@pytest.mark.parametrize("k", [1, 3])
def test_load_is_the_chance_to_be_chosen_under_new_noise(k):
    gate, x = random_gate(k), torch.randn(10, 6)
    torch.manual_seed(1)
    _, load = gate(x)
    torch.manual_seed(1)
    score, scale = gate.score(x), torch.nn.functional.softplus(gate.noise(x)) + MIN_NOISE
    noisy, expected = score + torch.randn(10, 4) * scale, torch.zeros(4)
    for v in range(10):
        for e in range(4):
            others = torch.cat([noisy[v, :e], noisy[v, e + 1 :]])
            margin = (score[v, e] - others.sort(descending=True).values[k - 1]) / scale[v, e]
            expected[e] += torch.distributions.Normal(0, 1).cdf(margin)
    torch.testing.assert_close(load, expected)
    load.var().backward()
    assert gate.score.weight.grad.abs().sum() > 0 and gate.noise.weight.grad.abs().sum() > 0


def random_gate(k):
    gate = NoisyTopKGate(6, num_experts=4, k=k)
    for parameter in gate.parameters():
        torch.nn.init.normal_(parameter)
    return gate


@pytest.mark.parametrize(
    ("chosen", "balance"), [(torch.arange(28) % 4, 0.0), (torch.zeros(28).long(), 2 * (4 - 1))]
)
def test_balance_is_zero_for_even_use_and_largest_for_one_expert(chosen, balance):
    class Fixed(torch.nn.Module):
        def forward(self, x):
            gates = torch.nn.functional.one_hot(chosen, 4).float()
            return gates, gates.sum(dim=0)

    model = GraphMoE([build_gnn() for _ in range(4)], Fixed())
    model(torch.randn(28, 6), torch.randint(28, (2, 60)))
    assert model.balance == balance


def test_the_balance_loss_reaches_the_gate(task):
    probs = []
    for balance in (0.0, 10.0):
        torch.manual_seed(0)
        probs.append(fit_graphmoe(task, CONFIG, SETTINGS, balance=balance)[0])
    assert not torch.equal(*probs)


@pytest.mark.parametrize("name", ["gcn", "sage", "gin"])
@pytest.mark.parametrize("budget", [200, 1500])
def test_no_other_width_is_nearer_to_the_budget(name, budget):
    @cache
    def count(width):
        return 2 * count_parameters(build_gnn(width, name=name))

    width = fit_width(count, budget)
    assert abs(count(width) - budget) == min(abs(count(w) - budget) for w in range(1, width + 9))
    assert abs(count(width) - budget) <= count(width + 1) - count(width)


def test_a_budget_below_width_1_is_an_error():
    with pytest.raises(ValueError, match="width 1 has 50 parameters, more than the budget of 20"):
        fit_width(lambda width: 50 * width, 20)


def test_two_gnns_have_the_size_of_the_mixture_up_to_one_step_of_width(task):
    _, details = fit_ensemble(task, CONFIG, SETTINGS)
    one, step = (count_parameters(build_gnn(details["width"] + more)) for more in (0, 1))
    assert details["parameters"] == 2 * one and abs(2 * one - details["budget"]) <= 2 * (step - one)


def test_an_ensemble_of_one_member_is_the_build_gnn(task):
    torch.manual_seed(0)
    prob, details = fit_ensemble(task, CONFIG, SETTINGS, members=1)
    assert details["budget"] == count_parameters(build_model(CONFIG, **CHANNELS))
    assert details["parameters"] == count_parameters(build_gnn(details["width"]))
    strong = train_alone(
        task, "strong", replace(CONFIG, strong_args={"hidden_channels": details["width"]})
    )
    torch.testing.assert_close(prob, predict(strong, task).softmax(dim=-1))


def test_average_of_equal_logits_is_the_expert_and_of_two_their_geometric_mean(task):
    weak, strong = torch.randn(2, 30, 3)
    torch.testing.assert_close(average_logits(weak, weak), weak.softmax(dim=1))
    product = (weak.softmax(dim=1) * strong.softmax(dim=1)).sqrt()
    torch.testing.assert_close(
        average_logits(weak, strong), product / product.sum(dim=1, keepdim=True)
    )


def test_logit_average_is_that_of_the_two_methods_train_alone(task):
    torch.manual_seed(0)
    prob, details = fit_logit_average(task, PLAIN, SETTINGS)
    weak, strong = train_alone(task, "weak", PLAIN), train_alone(task, "strong", PLAIN)
    torch.testing.assert_close(prob, average_logits(predict(weak, task), predict(strong, task)))
    assert details["parameters"] == count_parameters(weak) + count_parameters(strong)


def test_runs_are_written_once(tmp_path):
    out, again = tmp_path / "lines.jsonl", tmp_path / "again.jsonl"
    settings = {"epochs": 2, "hidden_channels": 4, "rounds": 1, "gate_fit": "train"}
    names = (*methods.BASELINES, "mowst")
    for path, wanted in ((out, names), (out, names), (again, ("mowst",))):
        methods.run(("digits",), ("gcn",), wanted, seeds=1, out=path, settings=settings)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert json.loads(again.read_text())["train"] == lines[-1]["train"]
    assert [line["method"] for line in lines] == list(names)
    for line in lines:
        assert (line["data"], line["strong"], line["seed"], line["split"]) == (
            "digits",
            "gcn",
            0,
            0,
        )
        assert all(0 <= line[split] <= 1 for split in ("train", "val", "test"))
        assert line["settings"]["epochs"] == 2 and line["settings"]["hidden_channels"] == 4
        assert line["environment"]


def test_unknown_names_are_errors(tmp_path):
    out = tmp_path / "lines.jsonl"
    with pytest.raises(ValueError, match="unknown method 'boosting'"):
        methods.run(("digits",), ("gcn",), ("boosting",), seeds=1, out=out)
    with pytest.raises(ValueError, match="unknown setting 'depth'"):
        methods.run(("digits",), ("gcn",), seeds=1, out=out, settings={"depth": 3})


def test_the_table_compares_baselines_with_the_methods_on_the_same_seeds(tmp_path, capsys):
    def make_line(strong, method, seed, test):
        return {"data": "digits", "strong": strong, "method": method, "seed": seed, "test": test}

    lines = {
        "out": [make_line("gcn", "adagcn", 0, 0.5), make_line("gcn", "adagcn", 1, 0.7)],
        "compare": [
            make_line("gcn", "mowst", 0, 0.9),
            make_line("gcn", "mowst", 1, 0.9),
            make_line("gcn", "mowst", 2, 0.0),
            make_line("sage", "mowst", 0, 0.1),
        ],
    }
    for name, written in lines.items():
        text = "".join(json.dumps(line) + "\n" for line in written)
        (tmp_path / name).write_text(text)
    methods.baselines(**{name: tmp_path / name for name in lines})
    header, _, row = capsys.readouterr().out.splitlines()
    cells = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert (cells["adagcn"], cells["mowst"], cells["ensemble"]) == (
        "60.00 +- 14.14",
        "90.00 +- 0.00",
        "",
    )
