#!/usr/bin/env python3
"""Compare fine-tuned encoders with their base under one protocol, by the jobs. The last line printed is JSON.

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
    parser.add_argument("--lake", help="an existing lake saves ingestion and embedding; default: a new one")
    arguments, others = parser.parse_known_args()
    scratch = Path(tempfile.mkdtemp(prefix="bench-tuning-"))
    try:
        print(json.dumps(measure(arguments, others, scratch)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def measure(arguments: argparse.Namespace, others: list[str], scratch: Path) -> dict[str, Any]:
    """Test metrics of base and tuned models, their relative lift, and the seconds of each training."""
    given = [
        f"--dataset={arguments.dataset}",
        f"--data={arguments.data}",
        f"--lake={arguments.lake or scratch / 'lake'}",
    ]
    frozen = evaluated(given)
    tuned, seconds = [], []
    for seed in range(arguments.seeds):
        model, started = scratch / f"model-{seed}", time.monotonic()
        submit("fine_tune_encoder", *given, f"--output={model}", f"--seed={seed}", *others)
        seconds.append(round(time.monotonic() - started, 1))
        tuned.append(evaluated([*given, f"--model={model}"]))
    lift = {
        scorer: {m: [round(one[scorer][m] / frozen[scorer][m] - 1, 4) for one in tuned] for m in METRICS}
        for scorer in SCORERS
    }
    means = {scorer: {m: round(mean(values), 4) for m, values in lifts.items()} for scorer, lifts in lift.items()}
    return {"frozen": frozen, "tuned": tuned, "lift": lift, "mean_lift": means, "tuning_seconds": seconds}


def evaluated(given: list[str]) -> dict[str, dict[str, float]]:
    """Test metrics by scorer."""
    report = submit("evaluate_models", *given, f"--scorers={','.join(SCORERS)}")
    return {scorer: {m: report["metrics"][scorer][m] for m in METRICS} | report["chosen"][scorer] for scorer in SCORERS}


def submit(job: str, *arguments: str) -> dict[str, Any]:
    """Run a job and return its last line; its progress goes to standard error."""
    command = [str(ROOT / "spark-submit.sh"), job, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stdout.splitlines()[-1:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
