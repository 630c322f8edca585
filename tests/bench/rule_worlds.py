"""Small generated data for conf/rules: ``python -m tests.bench.rule_worlds FOLDER`` writes a folder for each world."""

import csv
import sys
from pathlib import Path

import numpy as np

WORLDS = ("courses", "medicine", "city", "enterprise")

DAY = "2024-03-04"
"""A run date that suits all of them: a Monday."""


def write_world(name: str, folder: Path, *, items: int = 40, users: int = 30, seed: int = 0) -> None:
    """The files of a world: whole numbers of a generator of its own, the same for every call."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([seed, WORLDS.index(name)])
    {"courses": _courses, "medicine": _medicine, "city": _city, "enterprise": _enterprise}[name](
        folder, random, items, users
    )


def _write(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


def _some(random, names, most):
    return ";".join(random.choice(names, random.integers(0, most + 1), replace=False).tolist())


def _log(random, users, items, each=3):
    days = random.integers(1, 28, (len(users), each))
    return [(user, items[int(item)], f"2024-02-{day:02d} 10:00:00")
            for user, of_user in zip(users, days, strict=True)
            for item, day in zip(random.choice(len(items), each, replace=False), of_user, strict=True)]  # fmt: skip


def _courses(folder, random, items, users):
    topics, ids = ["algebra", "painting", "spanish", "biology"], [f"c{n:02d}" for n in range(items)]
    rows = [
        (course, f"{topics[n % 4]} {n // 4 + 1}", topics[n % 4], ids[n - 4] if n >= 4 and n % 3 else "")
        for n, course in enumerate(ids)
    ]
    _write(folder / "courses.csv", "course,title,topic,after", rows)
    log = [(*one[:2], str(random.choice(["complete", "view"])), one[2])
           for one in _log(random, [f"s{n:02d}" for n in range(users)], ids[: items // 2], each=5)]  # fmt: skip
    _write(folder / "log.csv", "student,course,what,at", log)


def _medicine(folder, random, items, users):
    complaints, conditions = ["cough", "pain", "sleep"], ["asthma", "pregnancy", "diabetes", "ulcer"]
    rows = [
        (f"r{n:02d}", f"{complaints[n % 3]} remedy {n}", complaints[n % 3], random.choice(["", "6", "12", "18"]),
         _some(random, conditions, 2))
        for n in range(items)
    ]  # fmt: skip
    _write(folder / "remedies.csv", "remedy,title,complaint,min_age,unfit", rows)
    people = [f"p{n:02d}" for n in range(users)]
    ages = [str(random.choice(["", 4, 10, 15, 30, 70])) for _ in people]
    rows = [(one, age, _some(random, conditions, 2)) for one, age in zip(people, ages, strict=True)]
    _write(folder / "patients.csv", "patient,age,conditions", rows)
    _write(folder / "log.csv", "patient,remedy,at", _log(random, people, [f"r{n:02d}" for n in range(items)]))


def _city(folder, random, items, users):
    kinds, districts, days = ["shelter", "library", "pool"], ["north", "east", "south"], ["Mon", "Tue", "Sat"]
    rows = [
        (f"v{n:02d}", f"{kinds[n % 3]} {n}", kinds[n % 3], _some(random, districts, 3) or "south",
         _some(random, days, 3) or "Mon")
        for n in range(items)
    ]  # fmt: skip
    _write(folder / "services.csv", "service,title,kind,areas,open_on", rows)
    people = [f"p{n:02d}" for n in range(users)]
    _write(folder / "people.csv", "person,district", [(one, str(random.choice([*districts, ""]))) for one in people])
    _write(folder / "log.csv", "person,service,at", _log(random, people, [f"v{n:02d}" for n in range(items)]))


def _enterprise(folder, random, items, users):
    departments = ["sales", "law", "research", "works"]
    rows = [("handbook", "handbook", "law", "0")]
    rows += [(f"d{n:02d}", f"{departments[n % 4]} report {n}", departments[n % 4], str(random.integers(0, 4)))
             for n in range(items)]  # fmt: skip
    _write(folder / "documents.csv", "document,title,department,clearance", rows)
    people = [f"p{n:02d}" for n in range(users)]
    staff = [
        (one, str(random.choice(["", "0", "1", "2", "3"])), str(random.choice(departments)),
         str(random.choice(["2020-05-01", "2024-02-01"])))
        for one in people
    ]  # fmt: skip
    _write(folder / "staff.csv", "person,clearance,department,since", staff)
    _write(folder / "log.csv", "person,document,at", _log(random, people, [f"d{n:02d}" for n in range(items)]))


if __name__ == "__main__":
    for world in WORLDS:
        write_world(world, Path(sys.argv[1]) / world)
