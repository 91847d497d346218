import json

import pytest

from flr_model.config import EvalConfig, ModelConfig, TitleConfig, TrainConfig, own_fields
from flr_model.config_io import ALL, build, current, dump_toml, model_config, read_tables
from flr_model.errors import ConfigError


def write(tmp_path, text):
    path = tmp_path / "flr.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("comments", [False, True])
def test_every_configuration_survives_toml(tmp_path, comments):
    configs = [config() for config in ALL]
    tables = read_tables(write(tmp_path, dump_toml(configs, comments=comments)))
    assert [build(config, tables[config.table]) for config in ALL] == configs


def test_comments_hold_help_and_choices():
    text = dump_toml([EvalConfig()], comments=True)
    assert "# split whose rows are ranked [train | valid | test]\nsplit = " in text


def test_flags_win_over_the_file_and_the_file_over_defaults():
    found = build(EvalConfig, {"seed": 1, "bootstrap": 5}, {"seed": 2, "split": None})
    assert (found.seed, found.bootstrap, found.split) == (2, 5, "test")


def test_an_unknown_key_gets_the_nearest_name(tmp_path):
    with pytest.raises(ConfigError, match=r"epoch in \[train\] is unknown \(did you mean epochs\?\)"):
        read_tables(write(tmp_path, "[train]\nepoch = 3\n"))


def test_an_unknown_table_and_an_unknown_key_are_reported_together(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_tables(write(tmp_path, "[trane]\n[eval]\nsede = 1\n"))
    assert "did you mean train?" in caught.value.message
    assert "did you mean seed?" in caught.value.message


def test_a_key_outside_any_table_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\[seed\] is not a table"):
        read_tables(write(tmp_path, "seed = 1\n"))


def test_text_that_is_not_toml_says_where(tmp_path):
    with pytest.raises(ConfigError, match="line 1"):
        read_tables(write(tmp_path, "[train\n"))


@pytest.mark.parametrize("value", ["[" * 5000, "9" * 5000])
def test_toml_that_python_will_not_take_is_refused(tmp_path, value):
    (tmp_path / "flr.toml").write_text(f"[train]\nepochs = {value}\n")
    with pytest.raises(ConfigError, match=r"flr\.toml is not TOML"):
        read_tables(tmp_path / "flr.toml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.toml does not exist"):
        read_tables(tmp_path / "gone.toml")


@pytest.mark.parametrize("value", ["3", 3.5, True])
def test_a_value_of_another_type_is_refused(value):
    with pytest.raises(ConfigError, match=r"epochs in \[train\] is .*, expected int"):
        build(TrainConfig, {"epochs": value})


def test_a_whole_number_is_accepted_where_a_float_is_expected():
    found = build(TrainConfig, {"learning_rate": 1})
    assert isinstance(found.learning_rate, float)


AUTO = [(config, rule) for config in ALL for rule in own_fields(config) if rule.metadata["auto"] is not None]


@pytest.mark.parametrize(("config", "rule"), AUTO, ids=lambda value: getattr(value, "name", None))
def test_auto_is_none_and_what_earlier_versions_wrote_for_it_is_read(config, rule, tmp_path):
    for written in ("auto", rule.metadata["auto"]):
        table = read_tables(write(tmp_path, f"[{config.table}]\n{rule.name} = {json.dumps(written)}\n"))[config.table]
        assert getattr(build(config, table), rule.name) is None
    assert build(config, {rule.name: None}) == build(config, {}, {rule.name: "auto"})
    assert f'{rule.name} = "auto"' in dump_toml([config(**{rule.name: None})])


def test_settings_that_know_no_auto_refuse_it():
    with pytest.raises(ConfigError, match=r"refine_steps in \[model\] is 'auto', expected int$"):
        build(ModelConfig, {"refine_steps": "auto"})
    with pytest.raises(ConfigError, match=r"expected int or auto"):
        build(ModelConfig, {"n_factors": "many"})


def test_the_title_decoder_has_a_table_of_its_own(tmp_path):
    model = ModelConfig(item_readers="backbone", decoder="title", title=TitleConfig(beams=3, guidance=0.5))
    text = dump_toml([model, TrainConfig()])
    assert "[title]\nprompt = " in text
    assert model_config(read_tables(write(tmp_path, text))) == model
    assert "[title]" not in dump_toml([ModelConfig()])


def test_title_settings_where_earlier_versions_saved_them_are_read(tmp_path):
    saved = {
        "model": {"decoder": "title", "beams": 3, "guidance": 0.5, "length_penalty": 0.0, "layers": 0},
        "train": {"title_softmax": "vocabulary", "epochs": 0},
    }
    expected = TitleConfig(beams=3, guidance=0.5, title_softmax="vocabulary")
    model = model_config(saved)
    assert (model.title, model.layers) == (expected, None)
    assert build(TrainConfig, current(saved)["train"]).epochs is None
    assert saved["model"]["beams"] == 3  # untouched


def test_what_was_saved_before_there_were_readers_was_read_by_the_backbone():
    assert model_config({"model": {}}).readers == ("backbone",)
    assert model_config({"model": ModelConfig(item_readers="minilm, backbone").as_dict()}).readers == (
        "minilm",
        "backbone",
    )


@pytest.mark.parametrize(
    "left",
    [
        {"model": {"item_readers": "auto"}},
        {"model": {"n_factors": "auto"}},
        {"model": {"decoder": "title"}, "title": {"guidance": "auto"}},
    ],
)
def test_saved_settings_are_those_of_a_model_that_was_built(left):
    with pytest.raises(ConfigError, match="leaves item_readers, n_factors or guidance to a training"):
        model_config(left)


def test_settings_without_a_model_are_refused():
    with pytest.raises(ConfigError, match=r"no table \[model\]"):
        model_config({})
