"""Fit the sequence encoder on the driver, on the histories of a split."""

from pyspark.sql import DataFrame

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.evaluate.kernels.sequence_scores import PLAN, SequenceScores, fit_sequence
from recsys_spark.evaluate.steps.labelled_events import labelled_events
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.training.kernels.training_loop import Record

MAX_EVENTS = 20_000_000
"""Events that the driver trains on; above it, those of a hash sample of the users."""


def fit_sequence_scorer(
    run: Run, users: DataFrame, last_role: int, texts: Matrix, *, events: int, epochs: int | None
) -> tuple[SequenceScores, int]:
    """Scores of a sequence encoder that was fitted on events of roles up to ``last_role``; and its number of epochs.

    Args:
        run: shows the progress.
        users: rows of ``protocols.user_rows``.
        last_role: events of the next role are for validation.
        texts: (n, d) whitened unit vectors of the items.
        events: number of events to fit on.
        epochs: to train, without validation; None: validation chooses.
    """

    def show(record: Record) -> None:
        place = f"sequence encoder, epoch {int(record['epoch']) + 1} of {epochs or PLAN.epochs}"
        figures = ", ".join(f"{name} {value:.4f}" for name, value in record.items() if name.startswith("valid_"))
        if figures:
            run.progress.note(f"{place}: {figures}")
        else:
            run.progress.say(f"{place}, step {int(record['step'])}, loss {record['loss']:.4f}")

    labelled = labelled_events(users, last_role, MAX_EVENTS / max(events, 1))
    return fit_sequence(texts, labelled, epochs=epochs, report=show)
