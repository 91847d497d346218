import logging

import pytest

from flr_model.data.histories import HistoryRows
from flr_model.evaluation import validation
from flr_model.evaluation.validation import validation_rows

ROWS = HistoryRows.from_lists([[0]] * 9)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(validation, "RANKED_ROWS", 5)
    monkeypatch.setattr(validation, "SEARCHED_ROWS", 3)


@pytest.mark.parametrize(("asked", "searched", "n"), [(None, False, 5), (None, True, 3), (7, True, 7), (20, False, 9)])
def test_as_many_rows_are_ranked_as_were_asked_for_or_are_worth_their_time(asked, searched, n):
    assert len(validation_rows(ROWS, asked, searched=searched)) == n


def test_rows_left_out_are_named_unless_that_was_asked_for(caplog):
    caplog.set_level(logging.INFO)
    validation_rows(ROWS, 4, searched=False)
    validation_rows(ROWS.select(slice(0, 5)), None, searched=False)
    assert not caplog.messages
    validation_rows(ROWS, None, searched=False)
    assert caplog.messages == ["validation by 5 of 9 rows, evenly spaced (--valid-rows)"]
