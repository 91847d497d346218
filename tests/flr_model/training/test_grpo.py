import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flr_model.config import AlignConfig
from flr_model.data.dataset import Dataset
from flr_model.errors import ArtifactError, ConfigError
from flr_model.nn.history_encoders import HistoryInputs
from flr_model.nn.recommender import Batch, TrainableRecommender
from flr_model.nn.run import load_recommender, load_run
from flr_model.nn.sampled_softmax import Softmax
from flr_model.ranking.pair_events import PairEvents
from flr_model.training.grpo import align, trainable
from flr_model.training.policies import GatePolicy, Policy, policy_of
from flr_model.training.state_cache import StateCache
from flr_model.training.trainer import Samples
from tests.builders import reseal


def settings(**changes):
    return AlignConfig(**{"batch_size": 64, "max_steps": 4, "learning_rate": 1e-3, "policy": "thought", **changes})


@dataclass
class Parts:
    """An objective outside of the training loop: its recommender, and a batch of 64 rows."""

    recommender: TrainableRecommender
    objective: Policy
    batch: Batch

    def steps(self, n, rate=1e-3):
        """Learn from the same rows n times; return the unperturbed reward before each step."""
        learns = [weight for weight in self.recommender.parameters() if weight.requires_grad]
        optimizer, rewards = torch.optim.Adam(learns, lr=rate), []
        for _ in range(n):
            out = self.objective(self.batch)
            optimizer.zero_grad()
            out["loss"].backward()
            optimizer.step()
            rewards.append(out["reward"].item())
        return rewards


@pytest.fixture
def parts(tiny_run, tiny_dataset):
    def make(run=tiny_run, softmax=None, **changes):
        torch.manual_seed(0)
        loaded, rows = load_run(run), Dataset.open(tiny_dataset).rows("train")
        recommender = trainable(loaded, rows)
        recommender.head.softmax = softmax or recommender.head.softmax
        rows = rows.select(slice(0, 64))
        cache = StateCache(recommender, rows, megabytes=100)
        objective = policy_of(recommender, settings(**changes), cache).train()
        return Parts(recommender, objective, Samples.of_rows(recommender, rows).batch(np.arange(64)))

    return make


@pytest.fixture(scope="module")
def aligned(tiny_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("aligned") / "run"
    return out, align(tiny_run, out, align=settings())


def test_before_is_what_training_measured(aligned, tiny_run):
    training = json.loads((tiny_run / "manifest.json").read_text())["content"]["report"]
    assert aligned[1].before == pytest.approx(training["valid"])


def test_the_kept_weights_are_the_better_ones(aligned, tiny_run, tiny_dataset):
    out, report = aligned
    assert report.kept == ("aligned" if report.after["NDCG@10"] > report.before["NDCG@10"] else "sft")
    rows = Dataset.open(tiny_dataset).rows("valid")
    same = np.array_equal(load_recommender(out).scores(rows), load_recommender(tiny_run).scores(rows))
    assert same == (report.kept == "sft")


def test_before_the_first_step_policy_and_samplers_agree(parts):
    """Dropout in any of them would be a noise that outweighs the samples' own."""
    made = parts(kl=1.0, learning_rate=0.0)
    out = made.objective(made.batch)
    assert out["divergence"] == 0
    assert abs(out["loss"].item()) < 1e-4  # the ratio is 1, and a group's advantages have mean 0
    made.steps(1, rate=1e-2)
    assert made.objective(made.batch)["divergence"] > 0


def test_the_reward_of_the_rows_it_learns_from_rises(parts):
    made = parts(group_size=17)
    torch.nn.init.normal_(made.recommender.head.decoder.thought_map, std=0.1)  # a short training leaves it near zero
    rewards = made.steps(12)
    assert rewards[-1] > rewards[0] + 0.03


def test_the_title_policy_learns_too(parts, tiny_title_run):
    made = parts(tiny_title_run, group_size=17)
    torch.nn.init.normal_(made.recommender.head.decoder.thought_map, std=0.3)
    rewards = made.steps(12)
    assert rewards[-1] > rewards[0] + 0.5  # it rises by about 1, by rounding more or less; without learning by nothing


def test_only_the_policy_learns(parts):
    made = parts()
    before = {name: weight.clone() for name, weight in made.recommender.state_dict().items()}
    made.steps(2)
    changed = {name for name, weight in made.recommender.state_dict().items() if not torch.equal(weight, before[name])}
    policy = ("model.reasoner.", "model.latent.")
    assert changed
    assert all(name.startswith(policy) for name in changed)
    assert all(any(name.startswith(part) for name in changed) for part in policy)


def test_checkpoints_hold_only_what_learns(parts):
    objective = parts().objective
    assert any("reasoner" in name for name in objective.state_dict())
    assert not any(".lm." in name for name in objective.state_dict())


def test_samples_lie_around_the_thought_and_the_first_is_it(parts):
    objective = parts(noise=0.25, group_size=9).objective
    mean = torch.randn(2000, 4)
    samples = objective._sample(mean)
    assert samples.shape == (2000, 9, 4)
    torch.testing.assert_close(samples[:, 0], mean)
    assert (samples[:, 1:] - mean[:, None]).std().item() == pytest.approx(0.25, rel=0.02)


def test_kept_states_are_those_of_their_rows(parts):
    made = parts()
    numbers = torch.tensor([5, 0, 63])
    histories = made.recommender.history_batch(HistoryInputs(*(part[numbers] for part in made.batch.inputs[:2])))
    kept = made.objective._cache.get(numbers, histories)
    with torch.no_grad():
        computed = made.recommender.model.encode(histories)
    real = computed.mask[..., None] > 0
    torch.testing.assert_close(kept.states * real, computed.states * real)
    torch.testing.assert_close(kept.mask, computed.mask)


def test_gates_move_to_the_factors_with_larger_rewards(parts):
    made = parts(policy="gates")
    assert isinstance(made.objective, GatePolicy)
    head, batch = made.recommender.head, made.batch

    def expected():
        with torch.no_grad():
            reading = made.recommender.read(batch.inputs)
            rewards = head.factor_rewards("logprob", made.recommender.items, reading, batch.targets)
        return (reading.thought.gates * rewards).sum(1).mean().item()

    before = expected()
    rewards = made.steps(12, rate=1e-2)
    assert expected() > before + 0.03
    assert rewards[0] == pytest.approx(before, abs=1e-4)


def test_only_what_decides_on_the_gates_learns_under_their_policy(parts):
    made = parts(policy="gates")
    before = {name: weight.clone() for name, weight in made.recommender.state_dict().items()}
    made.steps(2)
    changed = {name for name, weight in made.recommender.state_dict().items() if not torch.equal(weight, before[name])}
    gates = ("gate_bias", "mass_weight", "thought_gate.weight", "factor_gate.weight", "taste_gate.weight")
    assert changed
    assert changed <= {f"model.reasoner.{name}" for name in gates}


def test_a_strong_kl_keeps_the_gates_where_they_were(parts):
    free, held = parts(policy="gates"), parts(policy="gates", kl=1e4)
    for made in (free, held):
        made.steps(6, rate=1e-3)
    moved = [made.objective(made.batch)["divergence"].item() for made in (free, held)]
    assert moved[1] < 0.2 * moved[0]


def test_what_is_fixed_stays_and_what_adapts_follows_the_rewards(parts):
    fixed, free = parts(noise=0.5, kl=0.2), parts(noise=None, kl=None)
    for made in (fixed, free):
        made.steps(6)
    assert (fixed.objective.exploration.value, fixed.objective.fidelity.value) == (0.5, 0.2)
    assert fixed.objective.adapted() == {}
    assert set(free.objective.adapted()) == {"--noise", "--kl"}
    assert free.objective.exploration.value != 0.5
    assert free.objective.fidelity.value < 0.1  # the same rows again and again gain, so leaving SFT gets cheap
    before = free.objective.fidelity.value
    free.objective.eval()(free.batch)
    assert free.objective.fidelity.value == before


def test_the_kl_weight_adapts_for_gates_too(parts):
    made = parts(policy="gates", kl=None)
    made.steps(6, rate=1e-2)
    assert made.objective.fidelity.value < 0.1


def test_a_large_catalogue_is_represented_by_a_sample(parts):
    for policy in ("gates", "thought"):
        made = parts(softmax=Softmax(full_items=10, negatives=20), policy=policy)
        made.steps(1)
        with torch.no_grad():
            reading = made.recommender.read(made.batch.inputs)
            predicted = made.recommender.head.predict(made.recommender.items, reading, made.batch.targets)
        assert predicted.logits.shape[2] < len(made.recommender.catalog)


def test_a_policy_that_the_decoder_lacks_is_refused(tiny_title_run, tmp_path):
    with pytest.raises(ConfigError, match="--policy gates does not fit"):
        align(tiny_title_run, tmp_path / "run", align=settings(policy="gates"))


@pytest.mark.parametrize("reward", ["logprob", "ndcg"])
@pytest.mark.parametrize("advantage", ["batch", "popularity", "group"])
def test_alignment_that_does_harm_is_undone(tiny_run, tmp_path, caplog, reward, advantage):
    ruinous = settings(learning_rate=100.0, reward=reward, advantage=advantage)
    report = align(tiny_run, tmp_path / "run", align=ruinous)
    assert report.after["NDCG@10"] < report.before["NDCG@10"]
    assert report.kept == "sft"
    before, after = (load_file(run / "head.safetensors") for run in (tiny_run, tmp_path / "run"))
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert "SFT weights are kept" in caplog.text


def test_the_same_seed_gives_the_same_numbers(aligned, tiny_run, tmp_path):
    again = align(tiny_run, tmp_path / "again", align=settings())
    assert again.after == aligned[1].after
    assert (tmp_path / "again" / "head.safetensors").read_bytes() == (aligned[0] / "head.safetensors").read_bytes()


def test_an_aligned_run_says_so_and_can_be_aligned_again(aligned, tmp_path):
    assert load_run(aligned[0]).manifest.content["stage"] == "align"
    assert load_run(aligned[0]).manifest.settings["align"] == settings().as_dict()
    align(aligned[0], tmp_path / "twice", align=settings(max_steps=1))


def test_histories_as_text_are_aligned_too(tiny_text_run, tmp_path):
    report = align(tiny_text_run, tmp_path / "run", align=settings(max_steps=2))
    assert report.steps == 2


def test_a_dataset_that_is_gone_is_an_error_that_names_the_flag(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "moved")
    content = json.loads((tmp_path / "moved" / "manifest.json").read_text())["content"]
    reseal(tmp_path / "moved", content={**content, "dataset": str(tmp_path / "gone")})
    with pytest.raises(ArtifactError, match="is gone") as caught:
        align(tmp_path / "moved", tmp_path / "out", align=settings())
    assert "--data" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_an_existing_run_and_the_run_itself_are_refused(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "present")
    with pytest.raises(ArtifactError, match="exists already"):
        align(tiny_run, tmp_path / "present", align=settings())
    with pytest.raises(ConfigError, match="is an input of this command"):
        align(tiny_run, tiny_run, align=settings(), overwrite=True)


def test_rows_with_more_lags_are_counted_in_the_runs_own_buckets(tiny_run, tiny_dataset, monkeypatch):
    """As after `--refit`, whose rows are more than those aligned on."""
    run, rows = load_run(tiny_run), Dataset.open(tiny_dataset).rows("train")
    monkeypatch.setattr("flr_model.ranking.lags.LAGS_PER_BUCKET", 1)
    assert len(PairEvents.count(rows, len(run.catalog)).lag_bounds) > len(run.evidence.lag_bounds)
    baked = trainable(run, rows).head.evidence.bake()
    np.testing.assert_array_equal(baked.lag_bounds, run.evidence.lag_bounds)
    np.testing.assert_allclose(baked.value, run.evidence.value, rtol=1e-5)


def test_the_unperturbed_sample_is_rewarded_as_the_thought_itself(tiny_run, tiny_dataset):
    rows = Dataset.open(tiny_dataset).rows("train").select(slice(0, 8))
    recommender = trainable(load_run(tiny_run), rows)
    head, items = recommender.head, recommender.items
    batch = recommender.encode(rows, training=True)
    with torch.no_grad():
        reading = recommender.read(batch.inputs)
        thoughts = reading.thought.thought[:, None].repeat(1, 3, 1)
        thoughts[:, 1:] += torch.randn(8, 2, thoughts.shape[-1])
        for weight in (recommender.model.reasoner.query.weight, recommender.model.reasoner.thought_gate.weight):
            torch.nn.init.normal_(weight, std=0.1)  # they start at zero, and thoughts would change nothing
        reading = recommender.read(batch.inputs)
        thoughts[:, 0] = reading.thought.thought
        rewards = head.reward("logprob", recommender.model, items, reading, thoughts, batch.targets)
        terms = head.loss_terms(recommender.model, items, reading, batch.targets)
    assert rewards[:, 0].mean().item() == pytest.approx(-terms["cross_entropy"].item(), abs=1e-4)
    assert (rewards[:, 1] - rewards[:, 0]).abs().max() > 1e-4
