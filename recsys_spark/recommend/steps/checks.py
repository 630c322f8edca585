"""Refuse keys that exclude each other, before anything is read."""

from recsys_spark.errors import UsageError
from recsys_spark.fairness.options import CHANGED_BY
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.rules.rule_file import RuleBook


def check_fairness(options: TopKOptions) -> None:
    """Refuse a re-ranking of lists that are not ranked by score, or not of the best candidates.

    Raises:
        UsageError: it names the keys.
    """
    names = [name for name in ("diversity", "approximate") if getattr(options, name)]
    if options.reranks and names:
        changed = [name for name in CHANGED_BY if getattr(options, name)]
        raise UsageError(
            f"--{changed[0]} re-ranks the best candidates by score and cannot be combined with "
            f"--{' or --'.join(names)}: leave one of them out"
        )


def check_rules(book: RuleBook, options: TopKOptions) -> None:
    """Refuse rules that other keys would undo.

    Raises:
        UsageError: it names the rule and the key.
    """
    places = book.of("pin")
    beyond = [rule for _, rule in places if (rule.place or 0) > options.k]
    if beyond:
        raise UsageError(
            f"rules file {book.file}, rule '{beyond[0].id}': place {beyond[0].place} is not within lists of "
            f"k={options.k} items"
        )
    excluding = {"pin": ["interests"] * (options.interests > 1) + [n for n in CHANGED_BY if getattr(options, n)]}
    excluding["pin"] += ["explore"] if options.explore else []
    excluding["diversify"] = ["quota"] if options.quota else []
    excluding["diversify"] += ["interests"] if options.interests > 1 else []
    excluding["boost"] = ["explain"] if options.explain and options.scorer != "auto" else []
    for action, names in excluding.items():
        rules = book.of(action)
        if rules and names:
            raise UsageError(
                f"rules file {book.file}, rule '{rules[0][1].id}': action '{action}' cannot be combined with "
                f"--{names[0]}: leave one of them out"
            )


def check_freshness(options: TopKOptions) -> None:
    """Refuse reasons that would not add up to the scores.

    Raises:
        UsageError: it names the keys.
    """
    if options.freshness and options.explain and options.scorer != "auto":
        raise UsageError(
            "--freshness is no part of the reasons of --scorer=cosine and hybrid: leave --explain out, or use "
            "--scorer=auto"
        )
