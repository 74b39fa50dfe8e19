"""Train eight configurations with this checkout and with an earlier commit and compare the weights bit by bit.

`python -m tests.compare_commits REVISION`. A refactoring must not change the results of a seed. If the order of an
operation changes on purpose, the losses of the first ten steps show the effect.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
STEPS, COMPARED_LOSSES = 60, 10
CONFIGURATIONS = {
    "default": ["trainer=cpu"],
    "fast": ["trainer=cpu", "experiment=fast"],
    "keras_mnist": ["trainer=cpu", "model=keras_mnist", "discriminator=keras_mnist"],
    "conditional": ["trainer=cpu", "conditional=concat"],
    "wgan_gp": ["trainer=cpu", "experiment=wgan_gp"],
    "hinge_spectral_norm": [
        *("trainer=cpu", "loss=hinge", "discriminator.spectral_norm=true", "discriminator_normalization=none")
    ],
    "digits": ["trainer=cpu", "data=digits"],
    "ddp_cpu": ["trainer=ddp_cpu"],
}
COMMON = [f"max_steps={STEPS}", "seed=3", "evaluator=none", "samples.steps=[0]", "log.every_n_steps=1"]
# the same kernels for both commits
ENVIRONMENT = {"MKL_CBWR": "AUTO", "OMP_NUM_THREADS": "1", "DCGAN_DATA_DIR": str(ROOT / "data")}


def train(checkout: Path, overrides: list[str], run: Path) -> None:
    command = [sys.executable, "-m", "dcgan.train", *overrides, *COMMON, f"hydra.run.dir={run}"]
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{checkout}: {' '.join(overrides)}: {done.stderr}")


def tensors(run: Path) -> list[torch.Tensor]:
    """Return the tensors of the last checkpoint in their order, without names, which may differ between commits."""
    return list(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"].values())


def losses(run: Path) -> list[tuple[float, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss_d"]]
    return [(float(row["train/loss_d"]), float(row["train/loss_g"])) for row in rows[:COMPARED_LOSSES]]


def compare(old: Path, new: Path) -> str:
    before, after = tensors(old), tensors(new)
    if [x.shape for x in before] != [x.shape for x in after]:
        return "the shapes differ"
    different = sum(not torch.equal(x, y) for x, y in zip(before, after, strict=True))
    pairs = zip(losses(old), losses(new), strict=True)
    worst = max(abs(x - y) for one, other in pairs for x, y in zip(one, other, strict=True))
    bits = "bit-identical" if not different else f"{different} of {len(before)} tensors differ"
    return f"{bits}; losses of the first {COMPARED_LOSSES} steps differ by at most {worst:.1g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision")
    parser.add_argument("--only", nargs="*", default=list(CONFIGURATIONS), choices=list(CONFIGURATIONS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        old, runs = Path(name, "old"), Path(name, "runs")
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", "--quiet", old, args.revision], check=True)
        try:
            for configuration in args.only:
                for side, checkout in (("old", old), ("new", ROOT)):
                    train(checkout, CONFIGURATIONS[configuration], runs / side / configuration)
                outcome = compare(runs / "old" / configuration, runs / "new" / configuration)
                print(f"{configuration:<20} {outcome}", flush=True)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", old], check=True)


if __name__ == "__main__":
    main()
