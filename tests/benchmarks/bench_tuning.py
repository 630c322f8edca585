#!/usr/bin/env python3
"""A tuned encoder next to its base under one protocol, by the jobs themselves. Prints one JSON line last.

    tests/benchmarks/bench_tuning.py --data=../shared/data/amazon-scientific [--dataset=amazon_scientific --seeds=3]

`fine_tune_encoder` for each seed, `evaluate_models` for the base and each tuned model: cosine_whitened and hybrid.
Other arguments go to `fine_tune_encoder`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
SCORERS = ("cosine_whitened", "hybrid")
METRICS = ("hit_rate@10", "ndcg@10")


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--dataset", default="amazon_scientific")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lake", help="one that is there already saves reading and embedding; default: a new one")
    asked, others = parser.parse_known_args()
    scratch = Path(tempfile.mkdtemp(prefix="bench-tuning-"))
    try:
        print(json.dumps(measure(asked, others, scratch)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def measure(asked: argparse.Namespace, others: list[str], scratch: Path) -> dict[str, Any]:
    """Figures of base and tuned models on the test, what is gained, and seconds of every training."""
    given = [f"--dataset={asked.dataset}", f"--data={asked.data}", f"--lake={asked.lake or scratch / 'lake'}"]
    frozen = evaluated(given)
    tuned, seconds = [], []
    for seed in range(asked.seeds):
        model, started = scratch / f"model-{seed}", time.monotonic()
        submit("fine_tune_encoder", *given, f"--output={model}", f"--seed={seed}", *others)
        seconds.append(round(time.monotonic() - started, 1))
        tuned.append(evaluated([*given, f"--model={model}"]))
    lift = {
        scorer: {m: [round(one[scorer][m] / frozen[scorer][m] - 1, 4) for one in tuned] for m in METRICS}
        for scorer in SCORERS
    }
    means = {scorer: {m: round(mean(values), 4) for m, values in found.items()} for scorer, found in lift.items()}
    return {"frozen": frozen, "tuned": tuned, "lift": lift, "mean_lift": means, "tuning_seconds": seconds}


def evaluated(given: list[str]) -> dict[str, dict[str, float]]:
    """Test figures by scorer."""
    report = submit("evaluate_models", *given, f"--scorers={','.join(SCORERS)}")
    return {scorer: {m: report["metrics"][scorer][m] for m in METRICS} | report["chosen"][scorer] for scorer in SCORERS}


def submit(job: str, *arguments: str) -> dict[str, Any]:
    """The last line of a job; its progress goes where this program's does."""
    command = [str(ROOT / "spark-submit.sh"), job, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stdout.splitlines()[-1:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
