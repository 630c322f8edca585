"""Scorers that are made of others: hybrid and sequence encoder mixed, and their best candidates ranked again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recsys_spark.evaluate.kernels.recency import ItemCounts
from recsys_spark.evaluate.kernels.reranker import Parts, Reranked, examples, fit_reranker
from recsys_spark.evaluate.kernels.scorer_files import ScorerFiles, open_scorer, write_array
from recsys_spark.evaluate.kernels.scorers import Mixed
from recsys_spark.evaluate.steps.labelled_events import labelled_events
from recsys_spark.evaluate.steps.search_grids import Setting

MAX_EXAMPLES = 20_000
"""Users that the trees learn from; above it, a hash sample."""

_HYBRID = ("text_weight", "ridge", "candidates", "decay")


class Fitter(Protocol):
    """What is read of ``fitted_scorers.ScorerFitter``."""

    users: DataFrame
    last_role: int
    epochs: int

    @property
    def counts(self) -> ItemCounts:
        """Users of each item."""

    @property
    def example_levels(self) -> "Sequence[Fitter]":
        """Fitters of earlier events."""

    def files(self, scorer: str, setting: Setting) -> ScorerFiles:
        """The files of a fitted scorer."""


def _mixed(fitter: Fitter, setting: Setting, uri: str) -> ScorerFiles:
    """Hybrid and sequence encoder; the hybrid alone at weight 0."""
    hybrid, weight = fitter.files("hybrid", _some(setting, *_HYBRID)), setting["sequence"]
    if not weight:
        return hybrid
    parts = {"first": hybrid, "second": fitter.files("sequential", _some(setting, "epochs"))}
    return ScorerFiles((Mixed.__module__, Mixed.__name__), uri, values=parts | {"weight": weight})


def _reranked(fitter: Fitter, setting: Setting, uri: str) -> ScorerFiles:
    """Candidates ranked again by trees; the mixed scorer where the setting says no, or nobody is an example."""
    mixed = _some(setting, *_HYBRID, "sequence", "epochs")
    if not setting["reranked"]:
        return fitter.files("hybrid_sequential", mixed)
    parts = _parts(fitter, setting)
    dated = setting | {"epochs": setting.get("epochs", fitter.epochs)}
    learned = [one for one in (_examples(level, dated) for level in fitter.example_levels) if len(one[0])]
    if not learned:
        return fitter.files("hybrid_sequential", mixed)
    features, chosen = (np.concatenate(arrays) for arrays in zip(*learned, strict=True))
    model = fit_reranker(features, chosen)
    write_array(model, f"{uri}/model.npy")
    write_array(fitter.counts.users, f"{uri}/popularity.npy")
    columns = {"model": None, "popularity": None}
    return ScorerFiles((Reranked.__module__, Reranked.__name__), uri, columns, parts)


def _parts(fitter: Fitter, setting: Setting) -> dict[str, ScorerFiles]:
    return {
        "hybrid": fitter.files("hybrid", _some(setting, *_HYBRID)),
        "sequential": fitter.files("sequential", _some(setting, "epochs")),
        "vectors": fitter.files("cosine_whitened", {"whitened": 1, "shrink": 0.1}),
        "words": fitter.files("tfidf", {}),
    }


def _examples(fitter: Fitter, setting: Setting) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features of the candidates at the end of the histories of ``fitter``, and which of them is the next item."""
    scorers = {name: open_scorer(files) for name, files in _parts(fitter, setting).items()}
    events = labelled_events(fitter.users, fitter.last_role, MAX_EXAMPLES / max(fitter.users.count(), 1))
    return examples(Parts(**scorers, popularity=fitter.counts.users), events, setting["decay"])


def _some(setting: Setting, *names: str) -> Setting:
    return {name: setting[name] for name in names if name in setting}


COMPOSED: Mapping[str, Callable[[Fitter, Setting, str], ScorerFiles]] = {
    "hybrid_sequential": _mixed,
    "reranked": _reranked,
}
"""How the files of a composed scorer are made."""
