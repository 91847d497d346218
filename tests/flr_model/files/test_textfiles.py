import gzip

import pytest

from flr_model.errors import DataError
from flr_model.files.textfiles import find_encoding, open_text, read_head

TITLES = ["Amélie", "Été", "plain", "Zoë", "Straße"]


def _read(path, given=None):
    with open_text(path, find_encoding(path, given)) as text:
        return text.read()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "ascii"])
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_are_told_by_their_bytes(tmp_path, encoding, packed):
    text = "\n".join(["item_id,title", *(TITLES if encoding != "ascii" else ["plain"]), ""])
    content = text.encode(encoding)
    (tmp_path / "file.csv").write_bytes(gzip.compress(content) if packed else content)
    assert _read(tmp_path / "file.csv") == text


@pytest.mark.fault("other meaning")
@pytest.mark.parametrize(
    ("encoding", "text"), [("cp1251", "Война и мир\nИдиот\n"), ("gbk", "红楼梦\n西游记\n"), ("shift_jis", "雪国\n")]
)
def test_other_encodings_are_refused_until_they_are_named(tmp_path, encoding, text):
    path = tmp_path / "file.csv"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(DataError) as caught:
        find_encoding(path)
    assert "file.csv" in caught.value.message
    assert "--encoding" in caught.value.hint
    assert _read(path, encoding) == text


@pytest.mark.fault("other meaning")
def test_one_broken_byte_leaves_the_good_lines_as_they_are_and_is_said(tmp_path, caplog):
    path = tmp_path / "file.csv"
    lines = [title.encode() for title in TITLES * 5]
    lines[7] = b"Caf" + b"\xe9"
    path.write_bytes(b"\n".join(lines))
    read = _read(path).split("\n")
    assert [*read[:7], *read[8:]] == [*(TITLES * 5)[:7], *(TITLES * 5)[8:]]
    assert read[7] == "Caf\ufffd"
    assert "bytes that are not UTF-8 in 1 line (line 8)" in caplog.text


@pytest.mark.parametrize("content", [b"a\x00b\n", b"\xff\xfea", b"\xef\xbb\xbf\xff", b"item\x81\n"])
def test_what_is_no_text_is_refused_with_its_line(tmp_path, content):
    (tmp_path / "file.csv").write_bytes(content)
    with pytest.raises(DataError, match="line 1"):
        find_encoding(tmp_path / "file.csv")


def test_the_head_of_a_file_has_two_lines_however_long_they_are(tmp_path):
    (tmp_path / "file.csv").write_text("item_id,title\n1," + "long " * 20_000 + "\n2,x\n")
    assert [len(line) for line in read_head(tmp_path / "file.csv", "utf-8")] == [14, 100_003]
