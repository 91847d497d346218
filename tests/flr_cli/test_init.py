from flr_cli.app import main
from flr_model.config_io import ALL, build, read_tables


def test_the_written_file_is_every_default(tmp_path, capsys):
    out = tmp_path / "flr.toml"
    assert main(["init", "--out", str(out)]) == 0
    tables = read_tables(out)
    assert [build(config, tables[config.table]) for config in ALL] == [config() for config in ALL]
    assert capsys.readouterr().out == ""


def test_without_a_file_the_settings_go_to_stdout(tmp_path, capsys):
    assert main(["init"]) == 0
    printed = capsys.readouterr().out
    assert main(["init", "--out", str(tmp_path / "flr.toml")]) == 0
    assert (tmp_path / "flr.toml").read_text(encoding="utf-8") == printed


def test_an_edited_file_is_not_replaced_unasked(tmp_path, capsys):
    out = tmp_path / "flr.toml"
    out.write_text("mine")
    assert main(["init", "--out", str(out)]) == 3
    assert out.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert main(["init", "--out", str(out), "--overwrite"]) == 0
