"""fine_tune_encoder on one's own texts: what is published, reported and refused."""

import json

import pytest

from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.errors import InputError, UsageError
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.config import load
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.fine_tune_encoder import fine_tune_encoder
from tests.bench.training import with_mask_token


@pytest.fixture(scope="module")
def masked_bert(tiny_bert, tmp_path_factory):
    return with_mask_token(tiny_bert, tmp_path_factory.mktemp("masked") / "bert")


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """One lake for all trainings, so that it is ingested once."""
    return tmp_path_factory.mktemp("walks") / "lake"


def tuned(walks, model, lake, tmp_path, **given):
    settings = {"dataset": str(walks / "walks.toml"), "data": str(walks), "model": str(model), "objective": "masked_lm"}
    settings |= {"lake": str(lake), "output": str(tmp_path / "mine"), "batch": 2, "row_tokens": 32}
    settings |= {"learning_rate": 1e-2, "epochs": 4, "min_pairs": 10, "valid_share": 0.3, "test_share": 0.2} | given
    arguments = [f"--{key}={value}" for key, value in settings.items()]
    options = load(TuningOptions, "fine_tune_encoder", arguments, None)
    return fine_tune_encoder(Run("fine_tune_encoder", Lake(options.lake), Progress()), options)


def test_a_model_is_published_with_its_losses_and_next_items_before_and_after(
    spark, walks, masked_bert, lake, tmp_path
):
    report = tuned(walks, masked_bert, lake, tmp_path)
    assert report["validation_loss"] < report["validation_loss_frozen"]
    change = report["validation_loss"] / report["validation_loss_frozen"] - 1
    assert report["validation_loss_change"] == pytest.approx(change, abs=1e-3)
    assert report["gain"]["valid_loss"][1] > 0
    assert sum(report["texts"].values()) == 40  # the items; users of this log have no text
    assert {"frozen", "tuned", "lift"} <= set(report["next_items"])
    folder = tmp_path / "mine"
    assert read_model(str(folder)).fingerprint == report["model"] != report["base"]
    card = json.loads((folder / "training.json").read_text())
    assert card["status"] == "published"
    assert card["settings"]["mask_share"] == 0.15
    assert not (tmp_path / "mine.training").exists()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"tuning": "projector"},
            UsageError,
            "objective 'masked_lm' has no tuning 'projector'; it has full, lora, ia3",
        ),
        ({"processes": 2}, UsageError, "--objective=masked_lm trains in one process"),
        ({"min_pairs": 50}, InputError, "40 distinct texts of items and users: too little .* min_pairs 50"),
        ({"valid_share": 0.9}, UsageError, "valid_share 0.9 and test_share 0.2 leave nothing"),
        ({"objective": "causal_lm"}, UsageError, "causal_lm needs a model in which a token sees only earlier ones"),
    ],
)
def test_what_cannot_be_trained_is_refused(spark, walks, masked_bert, lake, tmp_path, given, error, message):
    with pytest.raises(error, match=message):
        tuned(walks, masked_bert, lake, tmp_path, **given)


def test_a_tokenizer_without_a_mask_is_refused(spark, walks, tiny_bert, lake, tmp_path):
    with pytest.raises(UsageError, match="needs a tokenizer with a mask token"):
        tuned(walks, tiny_bert, lake, tmp_path)


def test_a_lake_without_events_to_learn_from_is_trained_on_and_says_what_it_did_not_evaluate(
    spark, walks, masked_bert, lake, tmp_path
):
    report = tuned(walks, masked_bert, lake, tmp_path, run_date="2020-01-01", epochs=2)
    assert report["next_items"].startswith("not evaluated: 0 events")
    assert report["gain"]["valid_loss"][1] > 0
