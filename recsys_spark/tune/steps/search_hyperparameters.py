"""Hyperparameter search for a training by Optuna, with pruning; the study is stored on disk and resumable."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from recsys_spark.errors import InputError, QualityError, UsageError
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tune.options import RATES, TuningOptions
from recsys_spark.tune.steps.fine_tune_encoder import read_dataset, trainable_model
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
"""Keys that trials may vary; keys that a method does not use stay fixed."""


class SearchOptions(TuningOptions):
    """A training and the size of the search."""

    output: str = Field(description="folder of the study (SQLite); an existing study is continued")
    trials: int = Field(20, ge=1, description="number of trainings, including those of a continued study")
    search_seed: int = Field(0, ge=0, description="random seed of the search")


def search_hyperparameters(run: Run, options: SearchOptions) -> Report:
    """Train with different hyperparameters and report the best on validation, as arguments for fine_tune_encoder.
    Trainings that fall behind the median of the others are pruned."""
    if find_spec("optuna") is None:
        raise UsageError("search_hyperparameters needs the package optuna (extra 'train' of setup.py)")
    import optuna

    if options.objective not in ("regression", "contrastive"):
        raise UsageError(
            f"search_hyperparameters has no --objective={options.objective}, only regression and contrastive: compare "
            "its settings by fine_tune_encoder, one --output for each"
        )
    folder = Path(options.output).expanduser().absolute()
    check_parent(folder)
    model, dataset = trainable_model(run, options), read_dataset(run, options)
    if options.dry_run:
        return {"model": model.fingerprint, "tables": {}}
    if options.objective == "regression":
        from recsys_spark.tune.steps.tune_regression import regression_objective as prepare
    else:
        from recsys_spark.tune.steps.tune_contrastive import contrastive_objective as prepare
    objective = prepare(run, options, model, dataset)
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
    _check_same_settings(study, _fixed(options) | {"data": objective.data, "model": model.fingerprint})

    def train_trial(trial: "optuna.Trial") -> float:
        trial_options = options.model_copy(update=suggested(trial, options))
        with run.progress.step(f"trial {trial.number + 1} of {options.trials}"):
            return objective.score(trial_options, _prune_on_report(trial, objective.goal))

    remaining = options.trials - sum(t.state.is_finished() for t in study.trials)
    if remaining > 0:
        study.optimize(train_trial, n_trials=remaining, catch=QualityError)  # a loss that is not finite fails one trial
    return _report(study, options)


def suggested(trial: "optuna.Trial", options: TuningOptions) -> dict[str, Any]:
    """Hyperparameters of a trial, of the training and of the user representation."""
    default_rate = RATES[options.method]
    values: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", default_rate / 10, default_rate * 10, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 0.3, log=True),
    }
    if options.method in ("lora", "adalora"):
        values["rank"] = trial.suggest_categorical("rank", [4, 8, 16])
    if options.objective == "regression":
        return values | {"loss": trial.suggest_categorical("loss", ["mse", "huber"])}
    values["temperature"] = trial.suggest_float("temperature", 0.02, 0.3, log=True)
    values["decay"] = trial.suggest_float("decay", 0.5, 1.0)
    if options.method == "projector":
        values["shrink"] = trial.suggest_categorical("shrink", [0.03, 0.1, 0.3, 1.0])
        values["dropout"] = trial.suggest_float("dropout", 0.0, 0.6)
        values["hidden"] = trial.suggest_categorical("hidden", [0, 512, 1024])
        values["memory"] = trial.suggest_categorical("memory", [0, 10_000])
    return values


def _fixed(options: TuningOptions) -> dict[str, Any]:
    """Settings that no trial varies; all trainings of a study must share them."""
    searched = {*SEARCHED, "trials", "search_seed"}
    return {key: value for key, value in options.settings().items() if key not in searched}


def _prune_on_report(trial: "optuna.Trial", goal: str) -> Any:
    import optuna

    def report(record: dict[str, float]) -> None:
        if goal in record and record["epoch"] >= 0:
            trial.report(record[goal], int(record["epoch"]))
            if trial.should_prune():
                raise optuna.TrialPruned

    return report


def _check_same_settings(study: "optuna.Study", settings: dict[str, Any]) -> None:
    stored = study.user_attrs.get("facts")
    if stored is not None and stored != settings:
        different = sorted(key for key in {*stored, *settings} if stored.get(key) != settings.get(key))
        raise UsageError(f"the study in --output has other values of {', '.join(different)}: give another --output")
    study.set_user_attr("facts", settings)


def _report(study: "optuna.Study", options: SearchOptions) -> Report:
    states = [trial.state.name.lower() for trial in study.trials]
    if "complete" not in states:
        raise InputError("no trial was completed: increase --trials")
    best = study.best_trial
    return {
        "best": round(float(study.best_value), 5),
        "settings": best.params,
        "arguments": " ".join(f"--{key}={value}" for key, value in best.params.items()),
        "trials": {state: states.count(state) for state in sorted(set(states))},
        "study": str(Path(options.output).expanduser().absolute() / _STUDY),
        "tables": {},
    }
