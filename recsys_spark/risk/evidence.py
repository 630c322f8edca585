"""What risk scores look at: one name, one unit and one sentence for each."""

from dataclasses import dataclass

STEPS = 256
"""Every figure is stored as an integer multiple of 1 / STEPS: counts of integers have no order."""


@dataclass(frozen=True)
class Evidence:
    """A figure of a user or item.

    Args:
        name: of its column.
        sentence: with one place for the figure.
        shared: whether it also counts if the users who praise the same items have it in common.
    """

    name: str
    sentence: str
    shared: bool = False


OF_USERS = (
    Evidence("busiest_hour", "many events in one hour: %s deviations above users with as many events"),
    Evidence("burstiness", "events in bursts with long pauses: %s deviations above users with as many events"),
    Evidence("same_hours", "always at the same hours of the day: %s deviations above users with as many events"),
    Evidence("scattered_categories", "categories without a focus: %s deviations above users with as many events"),
    Evidence("turn", "later events in other categories than earlier ones: %s deviations above the usual"),
    Evidence("rare_items", "items that few others have: %s deviations above users with as many events", True),
    Evidence("mixed_popularity", "popular beside rare items: %s deviations above users with as many events", True),
    Evidence("deviation", "values far from those of others: %s deviations above the usual", True),
    Evidence("rare_deviation", "values far from others on items with few values: %s deviations above the usual", True),
    Evidence("top_values", "many of the greatest values: %s deviations above the usual", True),
    Evidence("low_values", "many of the least values: %s deviations above the usual", True),
    Evidence("value_spread", "values that differ much: %s deviations above the usual", True),
    Evidence("peak_value", "one value far above the user's own mean: %s deviations above the usual"),
    Evidence("unrelated_items", "items that have little to do with each other: %s deviations above the usual", True),
    Evidence("shared_text", "a text that many accounts share: %s deviations above the usual"),
)

DISTANCE = Evidence("distance", "the combination of all figures is unusual: distance %s")

TWINS = Evidence("twins", "a history that other accounts have too: %s of it is the same")

LOCKSTEP = Evidence("lockstep", "on the same items in the same half hours as other accounts: %s of them on average")

_ALIKE = "shares a praised item with accounts that are alike in this: "

OF_GROUPS = {one.name: f"{_ALIKE}{one.sentence.partition(':')[0]} (strength %s)" for one in OF_USERS if one.shared}
"""By name: what the users have in common who praise the same item."""

OF_ITEMS = (
    Evidence("praise_burst", "much praise in one week: %s deviations above what the log of all items suggests"),
    Evidence("frequent_words", "a title of words that many titles have: their logarithms add up to %s"),
    Evidence("foreign_words", "words in the title that are frequent, but not in its category: surprise %s"),
    Evidence("near_copy", "another item has nearly the same text: %s of its words are the same"),
    Evidence("instructions", "the text gives instructions to a program: %s sentences"),
)
