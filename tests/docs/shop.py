"""The export of a small shop: newest first, days with points, a few rows that nobody can read."""

import csv
import io
from datetime import date, timedelta
from pathlib import Path

import numpy as np

RANGES = {
    (
        "Garden",
        "Fernway",
        "Oakridge",
    ): "pruning shears,hand trowel,watering can 5 l,garden gloves,hose reel,bird feeder,"
    "plant labels,seed tray,leaf rake,wheelbarrow",
    ("Coffee", "Moka Bros", "Ardent"): "espresso beans 1 kg,burr grinder,milk frother,filter papers,moka pot,"
    "pour-over kettle,coffee scale,tamper,descaler,espresso cups",
    ("Baking", "Kornfeld", "Puro"): "loaf tin,proofing basket,rolling pin,cake ring,pastry brush,kitchen scale,"
    "dough scraper,baking stone,icing set,muffin tray",
    ("Cycling", "Velora", "Northpass"): "bike lock,front light,rear light,pannier bag,floor pump,chain oil,"
    "bottle cage,helmet,puncture kit,mudguards",
}
"""Category and two brands of a range, and its products in the order in which they are mostly bought."""

HEADER = ("customer_no", "sku", "product_name", "ordered_at", "brand", "category", "price")
FIRST, LAST, MONDAY = date(2024, 1, 2), date(2025, 6, 22), date(2025, 6, 30)
NEW = ("GA-150", "Fernway rain barrel", "Fernway", "Garden", "79,00")
BROKEN = {
    40: "10007;GA-103;Fernway watering can",  # cut off
    80: ";CO-101;Moka Bros espresso beans 1 kg;03.06.2025;Moka Bros;Coffee;5,00",  # a guest
    120: "10012;BA-104;Puro cake ring;31.02.2025;Puro;Baking;14,15",  # no such day
    160: "10020;CY-102;Northpass front light, old model;12.05.2025;Northpass;Cycling;10,05",  # another name
}
"""Lines of an export that are not as they should be, and their numbers."""


def products() -> list[tuple[str, str, str, str, str]]:
    """Sku, name, brand, category and price of each product, range after range."""
    found = []
    for number, ((category, *brands), things) in enumerate(RANGES.items()):
        for place, thing in enumerate(things.split(",")):
            brand = brands[place % 2]
            price = f"{4 + 3 * place + number},{(5 * place) % 100:02d}"
            found.append((f"{category[:2].upper()}-{101 + place}", f"{brand} {thing}", brand, category, price))
    return found


def orders(customers: int, seed: int) -> list[tuple[date, list[str]]]:
    """A row per product bought: customers mostly stay in one range and take what comes next there."""
    rng, goods = np.random.default_rng(seed), products()
    rows = []
    for customer in range(customers):
        day = FIRST + timedelta(days=int(rng.integers(430)))
        home, place = rng.choice(4, p=[0.4, 0.3, 0.2, 0.1]), int(rng.integers(10))
        for _ in range(int(rng.integers(4, 11))):
            rows.append((day, _row(str(10001 + customer), day, goods[10 * home + place])))
            day += timedelta(days=int(rng.exponential(18)))
            place = (place + 1 + int(rng.random() < 0.25)) % 10
            if rng.random() < 0.12:
                home, place = int(rng.integers(4)), int(rng.integers(10))
    for customer in ("20001", "20002"):
        rows.append((MONDAY, _row(customer, MONDAY, NEW)))
    return rows


def _row(customer: str, day: date, product: tuple[str, ...]) -> list[str]:
    sku, name, *rest = product
    return [customer, sku, name, f"{day:%d.%m.%Y}", *rest]


def write_shop(folder: Path, *, customers: int = 150, seed: int = 0) -> None:
    """Write orders.csv, and monday.csv: the export a week later, with two newcomers and a new product."""
    rows = sorted(orders(customers, seed), key=lambda row: row[0], reverse=True)
    for name, last in (("orders.csv", LAST), ("monday.csv", MONDAY)):
        text = io.StringIO(newline="")
        kept = [row for day, row in rows if day <= last]
        csv.writer(text, delimiter=";", lineterminator="\n").writerows([HEADER, *kept])
        lines = text.getvalue().splitlines()
        for number, line in BROKEN.items():
            lines.insert(number, line)
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
