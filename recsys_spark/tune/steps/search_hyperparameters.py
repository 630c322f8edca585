"""Settings of a training searched by Optuna: pruned early, kept on disk, continued where it stopped."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from recsys_spark.errors import InputError, QualityError, UsageError
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tune.options import RATES, TuningOptions
from recsys_spark.tune.steps.fine_tune_encoder import checked_model, read_dataset
from recsys_spark.tune.steps.model_publishing import check_parent

if TYPE_CHECKING:
    import optuna

_STUDY = "study.db"

SEARCHED = (
    "learning_rate",
    "weight_decay",
    "rank",
    "loss",
    "temperature",
    "decay",
    "shrink",
    "dropout",
    "hidden",
    "memory",
)
"""Settings that trials may change; those that a method does not have stay as they are."""


class SearchOptions(TuningOptions):
    """A training and how long to look for its best settings."""

    output: str = Field(description="folder of the study, an SQLite file; one that is there already is continued")
    trials: int = Field(20, ge=1, description="trainings, those of a study that is continued included")
    search_seed: int = Field(0, ge=0, description="of what is tried")


def search_hyperparameters(run: Run, options: SearchOptions) -> Report:
    """Train with setting after setting, each judged on validation only; a training that falls behind the median of
    the others is given up. Returns the best setting as arguments for fine_tune_encoder."""
    if find_spec("optuna") is None:
        raise UsageError("search_hyperparameters needs the package optuna (extra 'train' of setup.py)")
    import optuna

    folder = Path(options.output).expanduser().absolute()
    check_parent(folder)
    model, dataset = checked_model(run, options), read_dataset(run, options)
    if options.dry_run:
        return {"model": model.fingerprint, "tables": {}}
    if options.objective == "regression":
        from recsys_spark.tune.steps.tune_regression import trial_of_regression as prepare
    else:
        from recsys_spark.tune.steps.tune_contrastive import trial_of_contrastive as prepare
    attempt = prepare(run, options, model, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=f"{options.objective}-{options.method}",
        storage=f"sqlite:///{folder / _STUDY}",
        direction="minimize" if options.objective == "regression" else "maximize",
        sampler=optuna.samplers.TPESampler(seed=options.search_seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        load_if_exists=True,
    )
    _check_facts(study, _fixed(options) | {"data": attempt.data, "model": model.fingerprint})

    def objective(trial: "optuna.Trial") -> float:
        asked = options.model_copy(update=suggested(trial, options))
        with run.progress.step(f"trial {trial.number + 1} of {options.trials}"):
            return attempt.score(asked, _pruned(trial, attempt.goal))

    left = options.trials - sum(t.state.is_finished() for t in study.trials)
    if left > 0:
        study.optimize(objective, n_trials=left, catch=QualityError)  # a loss that is no number ends one trial
    return _report(study, options)


def suggested(trial: "optuna.Trial", options: TuningOptions) -> dict[str, Any]:
    """Settings to try: of the training and of what represents a user."""
    usual = RATES[options.method]
    found: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", usual / 10, usual * 10, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 0.3, log=True),
    }
    if options.method in ("lora", "adalora"):
        found["rank"] = trial.suggest_categorical("rank", [4, 8, 16])
    if options.objective == "regression":
        return found | {"loss": trial.suggest_categorical("loss", ["mse", "huber"])}
    found["temperature"] = trial.suggest_float("temperature", 0.02, 0.3, log=True)
    found["decay"] = trial.suggest_float("decay", 0.5, 1.0)  # a half-life, in events of the user
    if options.method == "projector":
        found["shrink"] = trial.suggest_categorical("shrink", [0.03, 0.1, 0.3, 1.0])  # the whitening
        found["dropout"] = trial.suggest_float("dropout", 0.0, 0.6)
        found["hidden"] = trial.suggest_categorical("hidden", [0, 512, 1024])
        found["memory"] = trial.suggest_categorical("memory", [0, 10_000])
    return found


def _fixed(options: TuningOptions) -> dict[str, Any]:
    """Settings that no trial changes: what a study may not mix."""
    searched = {*SEARCHED, "trials", "search_seed"}
    return {key: value for key, value in options.facts().items() if key not in searched}


def _pruned(trial: "optuna.Trial", goal: str) -> Any:
    import optuna

    def report(record: dict[str, float]) -> None:
        if goal in record and record["epoch"] >= 0:
            trial.report(record[goal], int(record["epoch"]))
            if trial.should_prune():
                raise optuna.TrialPruned

    return report


def _check_facts(study: "optuna.Study", facts: dict[str, Any]) -> None:
    known = study.user_attrs.get("facts")
    if known is not None and known != facts:
        other = sorted(key for key in {*known, *facts} if known.get(key) != facts.get(key))
        raise UsageError(f"the study in --output was made with other {', '.join(other)}: give another --output")
    study.set_user_attr("facts", facts)


def _report(study: "optuna.Study", options: SearchOptions) -> Report:
    states = [trial.state.name.lower() for trial in study.trials]
    if "complete" not in states:
        raise InputError("no trial came to an end: more --trials")
    best = study.best_trial
    return {
        "best": round(float(study.best_value), 5),
        "settings": best.params,
        "arguments": " ".join(f"--{key}={value}" for key, value in best.params.items()),
        "trials": {state: states.count(state) for state in sorted(set(states))},
        "study": str(Path(options.output).expanduser().absolute() / _STUDY),
        "tables": {},
    }
