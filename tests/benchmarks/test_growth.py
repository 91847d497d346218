"""Costs are measured of what a training does, and a drawing is made of them."""

import json
import sys

import growth
import pytest
from growth import Cost, Shop


def test_a_shop_has_the_sizes_asked_for():
    rows = growth.rows_of(Shop(rows=300, items=200, history=7))
    assert len(rows) == 300
    assert rows.lengths.max() == 7
    assert 100 < rows.items.max() < 200
    of_one = rows.items[rows.row_of_item() == 20] % growth.TASTES
    assert len(set(of_one.tolist())) == 1  # a customer buys from one taste


def test_the_exponent_of_a_power_is_found():
    sizes = [1, 2, 4, 8]
    assert growth.exponent(sizes, [3.0 * n**2 for n in sizes]) == pytest.approx(2)
    assert growth.exponent(sizes, [5.0] * 4) == pytest.approx(0)


def test_costs_are_measured_and_more_rows_have_more_pairs(tiny_backbone):
    few, many = (
        growth.cost(Shop(rows=rows, items=150, history=5), backbone=str(tiny_backbone), rounds=1, n_ranked=16)
        for rows in (200, 800)
    )
    assert min(few.counting_s, few.training_ms, few.ranking_ms) > 0
    assert 3 < many.counts_mib / few.counts_mib < 5


def test_every_axis_is_drawn_and_each_shop_measured_once(tmp_path, monkeypatch, capsys):
    measured = []

    def cost(shop, *, backbone):
        measured.append(shop)
        return Cost(counting_s=shop.rows / 1000, counts_mib=1.0, training_ms=float(shop.items), ranking_ms=2.0)

    monkeypatch.setattr(growth, "cost", cost)
    words = ["growth.py", "--plot", str(tmp_path / "growth.svg"), "--results", str(tmp_path / "growth.json")]
    monkeypatch.setattr(sys, "argv", words)
    growth.main()
    assert len(measured) == len(set(measured)) == len(json.loads((tmp_path / "growth.json").read_text()))
    assert "^1.00" in capsys.readouterr().out
    assert (tmp_path / "growth.svg").read_text().count("<path") > len(measured)
