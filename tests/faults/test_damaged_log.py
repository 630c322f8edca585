"""A commit log or a data file that is damaged: named, and brought back to the last whole version as the README says."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from recsys_spark.errors import InputError
from recsys_spark.lake.lake import Lake
from tests.faults.soak import SNAPSHOT, shown, staged


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A table of four versions; version n shows n."""
    made = Lake(str(tmp_path))
    for number in range(4):
        base = number - 1 if number else None
        made.commit(staged(made, SNAPSHOT, [("a", "1", float(number))], base), f"run {number}")
    return made


def entry(lake: Lake, number: int) -> Path:
    return Path(lake.table_uri(SNAPSHOT)) / "_delta_log" / f"{number:020}.json"


def goes_on(lake: Lake, version: int) -> None:
    """What was whole is shown, and the next run publishes."""
    assert shown(lake)[1] == {"a": version}
    base = lake.last_commit(SNAPSHOT).version
    lake.commit(staged(lake, SNAPSHOT, [("a", "1", 9.0)], base), "the next run")
    assert shown(lake)[1] == {"a": 9}


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: path.write_text(path.read_text()[:-40]), lambda path: path.write_bytes(b"\0" * 99)],
)
@pytest.mark.parametrize("number", [2, 3])
def test_a_damaged_or_missing_log_entry_is_told_and_the_entries_before_it_are_the_table(lake, damage, number):
    damage(entry(lake, number))
    if number == 3 and not entry(lake, 3).exists():
        goes_on(lake, 2)  # nobody can know that there was more
        return
    with pytest.raises(InputError, match=f"table 'snapshot' in lake {lake.uri} cannot be read"):
        lake.last_commit(SNAPSHOT)
    for later in range(number, 4):
        entry(lake, later).unlink(missing_ok=True)
    goes_on(lake, number - 1)


def test_a_table_whose_file_is_gone_is_restored_to_the_last_whole_version(lake):
    [path] = DeltaTable(lake.table_uri(SNAPSHOT)).file_uris()
    Path(path).unlink()
    assert not lake.can_read(SNAPSHOT, 3)
    DeltaTable(lake.table_uri(SNAPSHOT)).restore(2)
    goes_on(lake, 2)
