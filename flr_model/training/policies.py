"""The policies that alignment moves, each as the module that a trainer runs.

`ThoughtPolicy` is latent GRPO: a Gaussian around the thought, r_j = r + sigma eps_j with eps_0 = 0; a sample's gates,
attention, counts and queries follow from it, and its ranking is rewarded. `GatePolicy` takes the K factors themselves
as the group: each ranks the catalogue alone and has a reward; the policy is the gates, so the expected reward is exact
and needs no samples. No item is drawn and no text is generated in either (docs/method.md, "Alignment").

Shapes: B users, G samples, K factors, d width of the thought, M items.
"""

from __future__ import annotations

import copy
from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from flr_model.config import AlignConfig
from flr_model.errors import ConfigError
from flr_model.evaluation.segments import popularity_thirds
from flr_model.nn.model import FactorizedModel, Reading
from flr_model.nn.recommender import Batch, TrainableRecommender
from flr_model.training.advantages import (
    batch_advantage,
    categorical_kl,
    clipped_objective,
    gated_advantage,
    gaussian_kl,
    group_advantage,
    latent_log_ratio,
)
from flr_model.training.controllers import Controller, Exploration, Fidelity
from flr_model.training.learner import Learner
from flr_model.training.state_cache import StateCache


def snapshot(model: FactorizedModel) -> FactorizedModel:
    """Return a frozen copy of a model that shares its history encoder, and so its trunk."""
    return copy.deepcopy(model, {id(model.encoder): model.encoder}).requires_grad_(False)


class Policy(Learner):
    """A part of a trained recommender that learns from rewards.

    Rewards come from an older copy of the model, renewed every ``refresh_steps`` steps, so that the clip matters.

    Args:
        recommender: whose policy learns.
        config: of the alignment.
        cache: the backbone's states of the rows.
    """

    def __init__(self, recommender: TrainableRecommender, config: AlignConfig, cache: StateCache) -> None:
        super().__init__(recommender)
        self.settings = config  # `config` is what the Trainer takes for a transformers one
        self.fidelity = Fidelity(config.kl)
        self.reward = recommender.head.rewards[0] if config.reward == "auto" else config.reward
        recommender.requires_grad_(False)
        for parameter in self.learners(recommender.model):
            parameter.requires_grad_(True)
        self._cache = cache
        self._steps = 0
        self._snapshots: dict[str, FactorizedModel] = {}

    @staticmethod
    @abstractmethod
    def learners(model: FactorizedModel) -> list[nn.Parameter]:
        """Return the parameters of the policy."""

    def controllers(self) -> dict[str, Controller]:
        """Return what may adapt, by its flag."""
        return {"--kl": self.fidelity}

    def adapted(self) -> dict[str, float]:
        """Return the present value of what adapts, by its flag."""
        return {flag: controller.value for flag, controller in self.controllers().items() if controller.adapts}

    @abstractmethod
    def compare(self, old: Reading, new: Reading, reference: Reading, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, the mean reward and the KL divergence.

        Args:
            old: of the copy that is rewarded, without gradients.
            new: of the policy that learns.
            reference: of the SFT policy.
            batch: of rows.
        """

    def train(self, mode: bool = True) -> Policy:
        """Switch the mode of the objective alone: dropout would drown the differences that are rewarded."""
        super().train(mode)
        self.recommender.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, the mean reward of the policy as it is and its KL divergence of a batch of rows."""
        assert batch.numbers is not None, "states are kept by the number of a row"
        self._renew()
        histories = self.recommender.history_batch(batch.inputs)
        encoded = self._cache.get(batch.numbers, histories)
        with torch.no_grad():
            old, reference = (self._snapshots[name].think(encoded, histories) for name in ("old", "sft"))
        return self.compare(old, self.recommender.model.think(encoded, histories), reference, batch)

    def _renew(self) -> None:
        """Copy the policy when it is time to."""
        model = self.recommender.model
        if not self._snapshots:
            self._snapshots["sft"] = snapshot(model)
        if self.training and self._steps % self.settings.refresh_steps == 0:
            self._snapshots["old"] = snapshot(model)
        self._steps += 1


class GatePolicy(Policy):
    """The gates, rewarded by what each factor would have reached alone (see the module)."""

    @staticmethod
    def learners(model: FactorizedModel) -> list[nn.Parameter]:
        """Return the parameters that decide on the gates."""
        return model.reasoner.gate_parameters()

    def compare(self, old: Reading, new: Reading, reference: Reading, batch: Batch) -> dict[str, Tensor]:
        """Return minus the expected advantage of the gates, plus the KL divergence from those of SFT."""
        recommender = self.recommender
        with torch.no_grad():
            reward = recommender.head.factor_rewards(self.reward, recommender.items, old, batch.targets)
            advantage = gated_advantage(reward, old.thought.gates)
            if self.training and self.fidelity.adapts:
                self.fidelity.learn(((old.thought.gates - reference.thought.gates) * reward).sum(1))
        log_gates = new.thought.gate_logits.log_softmax(-1)
        expected = (log_gates.exp() * advantage).sum(1).mean()
        kl = categorical_kl(log_gates, reference.thought.gate_logits.log_softmax(-1))
        mean_reward = (old.thought.gates * reward).sum(1).mean()
        return {"loss": self.fidelity.value * kl - expected, "reward": mean_reward, "divergence": kl.detach()}


class ThoughtPolicy(Policy):
    """The thought, rewarded by what perturbed ones reach: latent GRPO (see the module)."""

    popularity: Tensor

    def __init__(self, recommender: TrainableRecommender, config: AlignConfig, cache: StateCache) -> None:
        super().__init__(recommender, config, cache)
        thirds = popularity_thirds(recommender.head.evidence.events.degree)
        kinds = torch.from_numpy(np.select([thirds == "head", thirds == "middle"], [0, 1], 2))
        self.register_buffer("popularity", kinds, persistent=False)  # (M,) third of the interactions
        self.exploration = Exploration(config.noise)
        self._generator = torch.Generator().manual_seed(config.seed)

    @staticmethod
    def learners(model: FactorizedModel) -> list[nn.Parameter]:
        """Return the parameters of the reasoner and of the map of latent tokens."""
        return [*model.reasoner.parameters(), *model.latent.parameters()]

    def compare(self, old: Reading, new: Reading, reference: Reading, batch: Batch) -> dict[str, Tensor]:
        """Return minus the clipped surrogate over latent samples, plus the KL divergence from the thought of SFT."""
        config = self.settings
        mean, thought, noise = old.thought.thought, new.thought.thought, self.exploration.value
        with torch.no_grad():
            samples = self._sample(mean)
            reward = self._rewards("old", old, samples, batch)
            advantage = self._advantage(reward, batch.targets.item)
            if self.training:
                self.exploration.learn(reward)
            if self.training and self.fidelity.adapts:
                of_sft = self._rewards("sft", reference, reference.thought.thought[:, None], batch)
                self.fidelity.learn(reward[:, 0] - of_sft[:, 0])
        log_ratio = latent_log_ratio(samples, thought[:, None], mean[:, None], noise)
        surrogate = clipped_objective(log_ratio, advantage, config.clip_low, config.clip_high)
        kl = gaussian_kl(thought, reference.thought.thought, noise)
        loss = self.fidelity.value * kl - surrogate
        return {"loss": loss, "reward": reward[:, 0].mean(), "divergence": kl.detach()}

    def controllers(self) -> dict[str, Controller]:
        """Return what may adapt, by its flag."""
        return {"--noise": self.exploration, **super().controllers()}

    def _rewards(self, snapshot: str, reading: Reading, thoughts: Tensor, batch: Batch) -> Tensor:
        """(B, G) rewards of (B, G, d) thoughts in place of what a copy of the model has read."""
        recommender = self.recommender
        model = self._snapshots[snapshot]
        return recommender.head.reward(self.reward, model, recommender.items, reading, thoughts, batch.targets)

    def _advantage(self, reward: Tensor, target: Tensor) -> Tensor:
        """(B, G) advantages of (B, G) rewards for (B,) targets."""
        if self.settings.advantage == "group":
            return group_advantage(reward)
        one_kind = self.settings.advantage == "batch"
        return batch_advantage(reward, torch.zeros_like(target) if one_kind else self.popularity[target])

    def _sample(self, mean: Tensor) -> Tensor:
        """(B, G, d) thoughts around (B, d), the first of each group unperturbed."""
        noise = torch.randn(len(mean), self.settings.group_size, mean.shape[1], generator=self._generator)
        noise[:, 0] = 0
        return mean[:, None] + self.exploration.value * noise.to(mean.device)


POLICIES: dict[str, type[Policy]] = {"gates": GatePolicy, "thought": ThoughtPolicy}


def policy_of(recommender: TrainableRecommender, config: AlignConfig, cache: StateCache) -> Policy:
    """Return the policy that a configuration asks for; what learns in the recommender is its parameters alone.

    Raises:
        ConfigError: if the recommender's head has no such policy or reward.
    """
    head = recommender.head
    policy = head.policies[0] if config.policy == "auto" else config.policy
    for flag, asked, known in (("--policy", policy, head.policies), ("--reward", config.reward, head.rewards)):
        if asked not in ("auto", *known):
            raise ConfigError(f"{flag} {asked} does not fit the run's decoder, which has {', '.join(known)}")
    return POLICIES[policy](recommender, config, cache)
