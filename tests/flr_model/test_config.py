import dataclasses

import pytest

from flr_model.config import EvalConfig, PrepareConfig, TrainConfig
from flr_model.config_io import ALL
from flr_model.errors import ConfigError


@pytest.mark.parametrize("config", ALL)
def test_defaults_are_valid(config):
    config()


@pytest.mark.parametrize("config", ALL)
def test_every_field_says_what_it_means(config):
    assert all(rule.metadata["help"] for rule in dataclasses.fields(config))


def test_each_configuration_has_its_own_table():
    assert len({config.table for config in ALL}) == len(ALL)


def test_a_value_out_of_bounds_is_named_as_its_flag():
    with pytest.raises(ConfigError, match="--batch-size is 0, below 1"):
        EvalConfig(batch_size=0)


def test_nan_is_within_no_bounds():
    with pytest.raises(ConfigError, match="--learning-rate is not a number"):
        TrainConfig(learning_rate=float("nan"))


def test_an_unknown_choice_lists_the_choices():
    with pytest.raises(ConfigError, match="--split is 'dev', not one of train, valid, test"):
        EvalConfig(split="dev")


def test_all_problems_are_in_one_message():
    with pytest.raises(ConfigError) as caught:
        TrainConfig(epochs=-1, precision="fp8")
    assert "--epochs" in caught.value.message
    assert "--precision" in caught.value.message


def test_held_out_shares_must_leave_training_rows():
    with pytest.raises(ConfigError, match="leave no rows to train on"):
        PrepareConfig(valid_fraction=0.5, test_fraction=0.5)


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        EvalConfig().seed = 1
