"""A generated log of card transactions with planted fraud, for conf/datasets/transactions.toml."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

CATEGORIES = (
    "grocery", "fuel", "restaurant", "clothing", "pharmacy", "travel", "electronics", "giftcards", "gaming", "bills",
)  # fmt: skip
COUNTRIES = ("DE", "FR", "IT", "ES", "PL", "US", "BR", "NG")
DEVICES = ("chip", "contactless", "web", "app")
START, DAYS = datetime(2024, 1, 1), 90


def write_transactions(
    folder: Path, cards: int, *, fraud: float = 0.02, seed: int = 0, labelled: float = 1.0
) -> set[str]:
    """Write transactions.csv; return the ids of the cards with fraud.

    A card has a home, categories, devices and amounts of its own. One card in 12 travels for a week, one in 20 buys
    something expensive, one in 15 shops at night: honest, and unusual. On a card with fraud somebody else makes 3 to 9
    transactions within hours, late in the log: a small trial, then greater amounts, on the web, often from abroad, and
    mostly where goods can be sold on. ``labelled``: share of the cards that a review has labelled.
    """
    random = np.random.default_rng(seed)
    lines, bad = ["card,merchant_category,amount,device,country,at,fraud"], set()
    for number in range(cards):
        card, label = f"c{number:06}", random.random() < labelled
        is_bad = random.random() < fraud
        rows = _usual(random) + (_fraud(random) if is_bad else [])
        for category, amount, device, country, at, wrong in rows:
            mark = "" if not label else int(wrong)
            lines.append(f"{card},{category},{amount:.2f},{device},{country},{at:%Y-%m-%d %H:%M:%S},{mark}")
        if is_bad:
            bad.add(card)
    (folder / "transactions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return bad


def _usual(random: np.random.Generator) -> list[tuple]:
    home = COUNTRIES[int(random.choice(6, p=[0.3, 0.2, 0.15, 0.15, 0.1, 0.1]))]
    habits = random.dirichlet([2.0, 1.5, 1.5, 0.8, 0.6, 0.2, 0.2, 0.1, 0.3, 0.8])
    devices = random.dirichlet([2.0, 2.0, 0.7, 0.5])
    level, night = random.normal(3.2, 0.5), random.random() < 1 / 15
    trip = int(random.integers(0, DAYS - 7)) if random.random() < 1 / 12 else None
    abroad = COUNTRIES[int(random.integers(0, 8))]
    rows = []
    for day in np.sort(random.integers(0, DAYS, max(5, int(random.gamma(4, 8))))):
        hour = random.normal(23, 2) % 24 if night else np.clip(random.normal(15, 4), 0, 23)
        country = abroad if trip is not None and trip <= day < trip + 7 else home
        category, device = CATEGORIES[random.choice(10, p=habits)], DEVICES[random.choice(4, p=devices)]
        at = START + timedelta(days=int(day), hours=float(hour), seconds=int(random.integers(0, 3600)))
        rows.append((category, np.exp(random.normal(level, 0.8)), device, country, at, False))
    if random.random() < 1 / 20:
        at = START + timedelta(days=int(random.integers(0, DAYS)), hours=14)
        rows.append(("electronics", np.exp(random.normal(6.5, 0.4)), "web", home, at, False))
    return rows


def _fraud(random: np.random.Generator) -> list[tuple]:
    at = START + timedelta(days=float(random.uniform(DAYS * 0.6, DAYS - 1)))
    country = COUNTRIES[int(random.choice(8, p=[0.1, 0.05, 0.05, 0.05, 0.05, 0.2, 0.25, 0.25]))]
    rows = [("gaming", random.uniform(0.5, 3), "web", country, at, True)]
    for _ in range(int(random.integers(2, 9))):
        at += timedelta(minutes=float(random.uniform(1, 40)))
        category = ("electronics", "giftcards", "gaming", "clothing")[int(random.choice(4, p=[0.35, 0.35, 0.2, 0.1]))]
        rows.append((category, np.exp(random.normal(4.7, 0.7)), "web", country, at, True))
    return rows
