"""Model when data parallelism pays: `python -m experiments.scaling.data_parallel`

A step on N GPUs takes as long as on one, and then the ring all-reduce of the gradients, 2 (N - 1) transfers of 1/N of
them: t + 2 (N - 1) (latency + bytes / (N * bandwidth)). The gradients do not travel while others are computed, as in
`dcgan.training.gradient_averaging`. The time t was measured on one H200 (experiments/gpu); bandwidths and latencies
are those that the vendors give. The speed of several GPUs has not been measured.
"""

from itertools import product
from pathlib import Path

from experiments.bench import print_results, write_results
from experiments.tables import Row, read_rows

HERE = Path(__file__).parent
STEP_SECONDS = {  # batch size / images per second, with a CUDA graph and TF32: h200/second_check.jsonl
    ("default", 128): 128 / 85_566,
    ("default", 512): 512 / 196_364,
    ("default, 64 x 64", 128): 128 / 28_080,
    ("experiment=fast", 64): 64 / 63_214,
}
LINKS = {  # bytes per second in one direction, and seconds per transfer
    "NVLink 4": (450e9, 5e-6),
    "InfiniBand, 400 Gbit/s": (50e9, 1e-5),
    "Ethernet, 25 Gbit/s": (3.125e9, 5e-5),
}
GPUS = (2, 8)


def all_reduce_seconds(n_bytes: float, gpus: int, bandwidth: float, latency: float) -> float:
    """Return the seconds of a ring all-reduce."""
    return 2 * (gpus - 1) * (latency + n_bytes / (gpus * bandwidth))


def main() -> None:
    megabytes = {row["config"]: float(row["megabytes_reduced"]) for row in read_rows(HERE / "cost.csv")}
    rows: list[Row] = []
    for (config, batch), seconds in STEP_SECONDS.items():
        row: Row = {"config": config, "batch_per_gpu": str(batch), "step_ms": f"{1000 * seconds:.2f}"}
        for (link, (bandwidth, latency)), gpus in product(LINKS.items(), GPUS):
            exchange = all_reduce_seconds(1e6 * megabytes[config], gpus, bandwidth, latency)
            row[f"{gpus} GPUs, {link}"] = f"{gpus * seconds / (seconds + exchange):.2f}"
        rows.append(row)
    write_results(HERE / "data_parallel.csv", rows)
    print_results(rows)


if __name__ == "__main__":
    main()
