import pytest
import torch

from mowst import GCN, MLP, Cascade, GraphSAGE, LearnedConfidence, Mowst, PowerConfidence, StepConfidence
from mowst.loss import mowst_loss, mowst_star_loss, reached_loss
from mowst.metrics import METRICS, expected_score
from mowst.nn.mixture import mixture_log_prob, mixture_prob, nested, shares

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
MIX = pytest.mark.parametrize("mix", ["prob", "logit"])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Cascade([MLP(**SIZES), GraphSAGE(**SIZES), GCN(**SIZES)], [LearnedConfidence(8), PowerConfidence()]).eval()


@pytest.fixture
def batch():
    logits = list(3 * torch.randn(3, 50, 4, dtype=torch.double))
    return logits, list(torch.rand(2, 50, dtype=torch.double)), torch.randint(4, (50,))


def evaluate(loss, *batch):
    return mowst_loss(*batch) if loss == "mowst" else mowst_star_loss(*batch, mix=loss)


def test_mowst_is_the_cascade_of_two(data):
    parts = MLP(**SIZES), GCN(**SIZES), LearnedConfidence(8)
    two, cascade = Mowst(*parts).eval(), Cascade(parts[:2], parts[2:]).eval()
    out, same = two(data.x, data.edge_index), cascade(data.x, data.edge_index)
    assert torch.equal(out.prob, same.prob) and torch.equal(out.confidence, same.confidences[0])
    assert torch.equal(out.weak, same.logits[0]) and torch.equal(out.strong, same.logits[1])
    for choice in ({}, {"threshold": 0.5}):
        both = [model.predict(data.x, data.edge_index, **choice) for model in (two, cascade)]
        assert torch.equal(*both)


def test_nesting_is_the_sum_under_the_shares(batch):
    logits, confidences, _ = batch
    parts = shares(confidences)
    torch.testing.assert_close(torch.stack(parts).sum(dim=0), torch.ones(50, dtype=torch.double))
    summed = sum(share.unsqueeze(-1) * z for share, z in zip(parts, logits, strict=True))
    torch.testing.assert_close(nested(logits, confidences), summed)


@MIX
def test_the_mixture_of_three_mixes_the_first_with_the_mixture_of_the_others(batch, mix):
    (first, *others), (c, *gates), _ = batch
    prob, c = mixture_prob([first, *others], [c, *gates], mix), c.unsqueeze(-1)
    if mix == "prob":
        expected = c * first.softmax(dim=-1) + (1 - c) * mixture_prob(others, gates, mix)
    else:
        expected = (c * first + (1 - c) * nested(others, gates)).softmax(dim=-1)
    torch.testing.assert_close(prob, expected)
    torch.testing.assert_close(
        mixture_log_prob([first, *others], [gate for gate in (c.squeeze(-1), *gates)], mix).exp(), prob
    )


@pytest.mark.parametrize("loss", ["mowst", "prob", "logit"])
@pytest.mark.parametrize("expert", range(3))
def test_an_expert_that_takes_all_or_nothing_leaves_the_loss_of_the_others(batch, loss, expert):
    logits, confidences, y = batch
    ones = torch.ones_like(confidences[0])
    if expert < 2:
        none = [0 * ones if k == expert else c for k, c in enumerate(confidences)]
        without = (
            [z for k, z in enumerate(logits) if k != expert],
            [c for k, c in enumerate(confidences) if k != expert],
            y,
        )
        torch.testing.assert_close(evaluate(loss, logits, none, y), evaluate(loss, *without))
    alone = [ones * float(k == expert) for k in range(2)]
    torch.testing.assert_close(evaluate(loss, logits, alone, y), torch.nn.functional.cross_entropy(logits[expert], y))


@MIX
def test_star_is_never_above_the_expected_loss_of_three(batch, mix):
    assert mowst_star_loss(*batch, mix=mix) <= mowst_loss(*batch)


@pytest.mark.parametrize("expert", range(3))
def test_what_reaches_an_expert_has_the_gradient_of_the_whole_loss_in_it(batch, expert):
    logits, confidences, y = batch
    own = logits[expert].requires_grad_()
    whole, part = (
        torch.autograd.grad(loss, own)[0]
        for loss in (mowst_loss(logits, confidences, y), reached_loss(logits, confidences, y, expert))
    )
    torch.testing.assert_close(whole, part)
    torch.testing.assert_close(reached_loss(logits, confidences, y, 0), mowst_loss(logits, confidences, y))


def test_normalized_weights_sum_to_one_and_a_floor_of_one_ignores_the_confidence(batch):
    logits, confidences, y = batch
    plain = torch.nn.functional.cross_entropy(logits[2], y)
    torch.testing.assert_close(reached_loss(logits, confidences, y, 2, floor=1.0), plain)
    same = [torch.full_like(c, 0.9) for c in confidences]
    torch.testing.assert_close(reached_loss(logits, same, y, 2, normalize=True), plain)
    torch.testing.assert_close(reached_loss(logits, same, y, 2), 0.01 * plain)
    assert reached_loss(logits, [torch.ones_like(c) for c in confidences], y, 2, normalize=True) == 0


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_expected_score_of_three_is_the_mean_over_draws(batch, metric):
    logits, confidences, y = batch
    probs = [z[:, :2].softmax(dim=-1) for z in logits]
    labels, parts = y % 2, shares(confidences)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(torch.stack(parts, dim=1), 3000, replacement=True, generator=generator)  # [N, draws]
    stacked = torch.stack(probs, dim=1)
    scores = torch.tensor(
        [METRICS[metric](stacked[torch.arange(50), drawn[:, i]].float(), labels) for i in range(3000)]
    )
    error = float(scores.std() / 3000**0.5)
    assert abs(expected_score(metric, probs, parts, labels) - float(scores.mean())) < 4 * error


@MIX
@pytest.mark.parametrize("k", range(3))
def test_a_route_is_one_expert(model, data, mix, k):
    model.mix, model.route = mix, f"expert{k + 1}"
    out = model(data.x, data.edge_index)
    torch.testing.assert_close(out.prob, out.logits[k].softmax(dim=-1))
    assert [float(share.mean()) for share in shares(out.confidences)] == [float(j == k) for j in range(3)]
    assert torch.equal(model.predict(data.x, data.edge_index), out.logits[k].argmax(dim=-1))


def test_a_threshold_asks_one_expert_after_the_other_and_none_in_vain(model, data):
    out = model(data.x, data.edge_index)
    threshold = float(torch.cat(out.confidences).median())
    answers = [z.argmax(dim=-1) for z in out.logits]
    sure = [c >= threshold for c in out.confidences]
    routed = torch.where(sure[0], answers[0], torch.where(sure[1], answers[1], answers[2]))
    assert torch.equal(model.predict(data.x, data.edge_index, threshold=threshold), routed)
    calls = []
    for name in ("expert2", "expert3"):
        getattr(model, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    model.confidence2 = StepConfidence(1e-6)
    model.predict(data.x, data.edge_index, threshold=1.0)
    assert calls == ["expert2"]
    model.predict(data.x, data.edge_index, threshold=0.0)
    assert calls == ["expert2"]


def test_sampled_routing_follows_the_shares(model, data):
    model.expert1, model.expert2, model.expert3 = (_Always(k) for k in range(3))
    model.confidence1, model.confidence2 = _Half(), _Half()
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([model.predict(data.x, data.edge_index, sample=True, generator=generator) for _ in range(300)])
    counts = draws.flatten().bincount().double() / draws.numel()
    torch.testing.assert_close(counts, torch.tensor([0.5, 0.25, 0.25], dtype=torch.double), atol=0.02, rtol=0)


class _Always(torch.nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return torch.nn.functional.one_hot(torch.full((x.size(0),), self.answer), 3).float()


class _Half(torch.nn.Module):
    def forward(self, logits):
        return torch.full_like(logits[:, 0], 0.5)


def test_a_temperature_divides_the_logits_that_gate_and_mixture_read(model, data):
    before = model(data.x, data.edge_index)
    model.temperatures[0] = 2.0
    out = model(data.x, data.edge_index)
    torch.testing.assert_close(out.logits[0], before.logits[0] / 2)
    torch.testing.assert_close(out.confidences[0], model.gate(0, before.logits[0] / 2, data.x))
    assert torch.equal(out.logits[1], before.logits[1])
    model.reset_parameters()
    assert model.temperatures == [1.0, 1.0, 1.0]


def test_named_experts_are_saved_and_loaded_with_route_and_temperatures(data, tmp_path):
    experts = {"mlp": MLP(**SIZES), "sage": GraphSAGE(**SIZES), "gcn": GCN(**SIZES)}
    model = Cascade(experts, [LearnedConfidence(8), PowerConfidence()], mix="logit").eval()
    model.temperatures, model.route = [1.5, 0.5, 1.0], "sage"
    model.save(tmp_path / "model.safetensors")
    loaded = Cascade.load(tmp_path / "model.safetensors").eval()
    assert repr(loaded) == repr(model) and loaded.expert_names == ("mlp", "sage", "gcn")
    assert torch.equal(loaded(data.x, data.edge_index).prob, model(data.x, data.edge_index).prob)
    assert (loaded.route, loaded.temperatures) == ("sage", [1.5, 0.5, 1.0])
    with pytest.raises(ValueError, match="cascade of mlp, sage, gcn: load it with Cascade.load"):
        Mowst.load(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="no part 'strong', only mlp, sage, gcn, confidence1, confidence2"):
        Cascade.load(tmp_path / "model.safetensors", strong=GCN(**SIZES))


@pytest.mark.parametrize("names", [("gcn", "gcn"), ("prob", "gate"), ("gcn", "mowst"), ("mixture", "gate")], ids=str)
def test_names_that_stand_for_something_else_are_refused(names):
    experts = {"mlp": MLP(**SIZES), names[0]: GCN(**SIZES)}
    with pytest.raises(ValueError, match="no part can be called"):
        Cascade(experts, {names[1]: PowerConfidence()})


def test_wrong_numbers_of_parts_are_told():
    with pytest.raises(ValueError, match="got 2 experts, 2 confidences"):
        Cascade([MLP(**SIZES), GCN(**SIZES)], [PowerConfidence(), PowerConfidence()])
    with pytest.raises(ValueError, match="got 1 experts, 0 confidences"):
        Cascade([MLP(**SIZES)], [])
    with pytest.raises(ValueError, match=r"'weak', choose from \['mixture', 'expert1', 'expert2'\]"):
        Cascade([MLP(**SIZES), GCN(**SIZES)], [PowerConfidence()]).route = "weak"
