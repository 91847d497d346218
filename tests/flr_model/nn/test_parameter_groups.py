import pytest
from torch import nn

from flr_model.nn.parameter_groups import check_groups, join_groups
from flr_model.training.sequences import SequenceObjective
from flr_model.training.setup import set_up
from flr_model.training.trainer import rates_of
from tests.builders import tiny_model, tiny_train


@pytest.fixture
def recommender(tiny_dataset, tiny_backbone):
    def make(tuning="auto", **shape):
        return set_up(tiny_dataset, tiny_model(tiny_backbone, **shape), tiny_train(tuning=tuning)).recommender

    return make


def group_of_each(module):
    groups = module.parameter_groups()
    check_groups(module, groups)
    named = {id(parameter): group for group, parameters in groups.items() for parameter in parameters}
    return {name: named[id(parameter)] for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("decoder", ["catalog", "title"])
@pytest.mark.parametrize("encoding", ["items", "text"])
@pytest.mark.parametrize("tuning", ["frozen", "lora", "full"])
def test_every_parameter_is_in_one_group_which_has_a_rate(recommender, decoder, encoding, tuning):
    groups = group_of_each(recommender(tuning, decoder=decoder, encoding=encoding))
    assert set(groups.values()) <= rates_of(tiny_train()).keys()
    assert {group for name, group in groups.items() if ".lm." in name} == {"backbone", "backbone_vectors"}


def test_what_learns_on_sequences_is_in_one_group_too(recommender):
    groups = group_of_each(SequenceObjective(recommender("sequences")))
    assert groups["recommender.model.encoder.projection.bias"] == "projection"
    assert groups["next_item.weight"] == "item_maps"


@pytest.mark.parametrize(
    "shape", [*({"n_factors": k} for k in range(1, 9)), {"embedding_size": 8}, {"max_history": 300}]
)
def test_the_group_of_a_parameter_does_not_depend_on_its_size(recommender, shape):
    assert group_of_each(recommender(**shape)) == group_of_each(recommender())


def test_what_is_a_number_a_factor_is_a_scalar_and_what_lies_in_item_space_an_item_map(recommender):
    groups = group_of_each(recommender())
    scalars = {name for name, group in groups.items() if group == "scalars"}
    reasoner = {"log_sharpness", "slot_bias", "competition", "gate_bias", "mass_weight", "recency.age", "recency.lag"}
    assert scalars == {
        "head.decoder.log_scale",
        *(f"model.reasoner.{name}" for name in reasoner),
        *(name for name in groups if name.startswith("head.evidence.")),
    }
    in_item_space = (
        "model.reasoner.centre",
        "model.reasoner.taste_gate.weight",
        "head.decoder.item_map",
        "items.scale",
    )
    assert {groups[name] for name in in_item_space} == {"item_maps"}
    assert groups["model.reasoner.value"] == groups["head.decoder.thought_map"] == "reasoner"


def test_the_factors_of_a_title_run_learn_as_those_of_a_catalog_run(recommender):
    catalog, title = group_of_each(recommender()), group_of_each(recommender(decoder="title"))
    assert {name: group for name, group in title.items() if "writer." not in name} == catalog


def test_a_parameter_in_no_group_or_in_two_is_an_error():
    module = nn.Linear(2, 3)
    with pytest.raises(AssertionError, match="'bias': 0"):
        check_groups(module, {"reasoner": [module.weight]})
    with pytest.raises(AssertionError, match="'weight': 2"):
        check_groups(module, join_groups({"reasoner": [module.weight, module.bias]}, {"scalars": [module.weight]}))
    with pytest.raises(AssertionError, match="1 parameters"):
        check_groups(module, {"reasoner": [*module.parameters(), nn.Linear(1, 1).weight]})
