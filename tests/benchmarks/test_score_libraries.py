"""What the comparison of speeds gives its libraries, and what it writes: every user, in the order of the file."""

import numpy as np
import pandas as pd
import pytest
import score_libraries

from flr_model.data.dataset import Dataset


@pytest.fixture
def histories(tiny_dataset, tmp_path):
    ids = Dataset.open(tiny_dataset).catalog.item_ids[:6].astype(str).tolist()
    path = tmp_path / "histories.csv"
    lists = [ids[:3], ids[3:], ids[:1]]
    pd.DataFrame({"user_id": ["b", "a", "c"], "history_item_id": lists}).to_csv(path, index=False)
    return path


def test_histories_are_read_as_positions_of_the_catalogue(tiny_dataset, histories):
    users, rows, _ = score_libraries.read(tiny_dataset, histories)
    assert users.tolist() == ["b", "a", "c"]
    assert rows.items.tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert rows.lengths.tolist() == [3, 3, 1]


def test_every_user_is_written_once_with_ten_items_in_order(tiny_dataset, histories, tmp_path, monkeypatch):
    monkeypatch.setattr(score_libraries, "BATCH", 2)
    out = tmp_path / "recs.csv"

    def best(rows):
        items = np.tile(np.arange(10), (len(rows), 1))
        return items, -items.astype(np.float32)

    score_libraries.write(best, tiny_dataset, histories, out)
    written = pd.read_csv(out, dtype={"item_id": str})
    ids = Dataset.open(tiny_dataset).catalog.item_ids.astype(str)
    assert written["user_id"].tolist() == [user for user in "bac" for _ in range(10)]
    assert written["rank"].tolist() == [*range(1, 11)] * 3
    assert written["item_id"].tolist() == ids[:10].tolist() * 3


@pytest.mark.parametrize("method", score_libraries.METHODS)
def test_a_library_ranks_ten_items_of_the_catalogue_that_a_user_has_not_had(method, tiny_dataset, histories, tmp_path):
    pytest.importorskip("implicit")
    sequential = "SASRec" in method
    if sequential:
        pytest.importorskip("recbole")
    score_libraries.fit(tiny_dataset, tmp_path, sequential=sequential)
    _, rows, ids = score_libraries.read(tiny_dataset, histories)
    items, scores = score_libraries.METHODS[method](tiny_dataset, tmp_path)(rows)
    assert items.shape == scores.shape == (3, 10)
    assert ((items >= 0) & (items < len(ids))).all()
    assert not set(items[0].tolist()) & {0, 1, 2}
    assert (np.diff(scores, axis=1) <= 0).all()
