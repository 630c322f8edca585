#!/usr/bin/env python3
"""The service under load: latencies at a fixed rate of requests, and the greatest rate. Prints one JSON line last.

    tests/benchmarks/bench_serve.py --users=100000 --rate=1000 --seconds=20

The generator sends a request when it is due, whether or not earlier ones were answered, and counts the latency from
then on: a slow answer delays no clock. Service and generator are two processes of this machine.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import numpy as np
import pyarrow as pa

from recsys_spark.export.kernels.bucket_files import encoded
from recsys_spark.export.steps.collections import Exported
from recsys_spark.serve.kernels.bucket_reader import bucket_of

ROOT = Path(__file__).parents[2]

K, BUCKETS, CONNECTIONS = 10, 64, 64


def main() -> None:
    """Write the files, start the service, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder:
        write_lists(Path(folder), arguments.users)
        command = [sys.executable, ROOT / "jobs" / "serve_recommendations.py", f"--folder={folder}", "--listen_port=0"]
        started = time.perf_counter()
        service = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            port = int(re.search(r":(\d+)\n", service.stderr.readline())[1])
            start = round(time.perf_counter() - started, 1)
            found = {"start_seconds": start} | asyncio.run(measure(port, arguments, service.pid))
            found["service_mb"] = _memory_mb(service.pid)
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(timeout=30)
    print(json.dumps(vars(arguments) | {"load": round(os.getloadavg()[0], 1)} | found))


def write_lists(folder: Path, users: int) -> None:
    """The files of an export to a folder."""
    rng, by_bucket = np.random.default_rng(0), [dict[bytes, str]() for _ in range(BUCKETS)]
    for user in range(users):
        name = f"u{user}".encode()
        items = [{"item_id": f"i{item}", "score": 1 / rank} for rank, item in enumerate(rng.integers(0, 20_000, K), 1)]
        by_bucket[bucket_of(name, BUCKETS)][name] = json.dumps(items)
    (folder / "recommendations").mkdir()
    for number, documents in enumerate(by_bucket):
        rows = pa.table({"id": sorted(documents), "content": [documents[name] for name in sorted(documents)]})
        (folder / "recommendations" / f"{number}.arrow").write_bytes(encoded(rows, "arrow", "user_id"))
    manifest = {"version": json.loads(Exported("generated", 1, "generated").to_json()), "file_format": "arrow"}
    manifest |= {"buckets": BUCKETS, "files": {number: f"{number}.arrow" for number in range(BUCKETS)}}
    (folder / "recommendations.json").write_text(json.dumps(manifest))


async def measure(port: int, arguments: argparse.Namespace, service: int) -> dict[str, Any]:
    """Milliseconds at the rate, in parts of all requests; answers a second without a pause; the processor's
    milliseconds of an answer, which say more than the clock on a machine that is shared."""
    users = np.random.default_rng(1).integers(0, arguments.users, arguments.rate * arguments.seconds)
    await run(port, users[: arguments.rate], arguments.rate)  # warm up
    before = _cpu_seconds(service)
    latencies, took = await run(port, users, arguments.rate)
    cpu = round(1000 * (_cpu_seconds(service) - before) / len(latencies), 3)
    most, most_took = await run(port, np.tile(users, 5)[:20_000], None)
    parts = {f"p{part}": round(1000 * float(np.percentile(latencies, part)), 2) for part in (50, 90, 99, 99.9)}
    greatest = round(len(most) / most_took)
    return {"answers_a_second": round(len(latencies) / took), "ms": parts, "cpu_ms": cpu, "greatest_rate": greatest}


async def run(port: int, users: np.ndarray, rate: int | None) -> tuple[list[float], float]:
    """Latencies in seconds of one request for each user, and the seconds of all."""
    latencies: list[float] = []
    begin = time.perf_counter() + (0.1 if rate else 0.0)  # connections are open when the first request is due

    async def connection(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(first, len(users), CONNECTIONS):
            due = begin + number / rate if rate else time.perf_counter()
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            writer.write(b"GET /users/u%d/recommendations?k=10 HTTP/1.1\r\nHost: a\r\n\r\n" % users[number])
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1]))
            latencies.append(time.perf_counter() - due)
        writer.close()

    await asyncio.gather(*(connection(first) for first in range(CONNECTIONS)))
    return latencies, time.perf_counter() - begin


def _cpu_seconds(pid: int) -> float:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / os.sysconf(
        "SC_CLK_TCK"
    )


def _memory_mb(pid: int) -> int | None:
    status = Path(f"/proc/{pid}/status")
    return int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1]) // 1024 if status.exists() else None


if __name__ == "__main__":
    main()
