"""Compare the image folder with torchvision's: `python -m experiments.pictures.decoding FOLDER` (a few minutes).

FOLDER has train/ and test/ with class folders of pictures, such as CIFAR-10's. Both give batches of float images in
[-1, 1]; epochs take turns, as the speed of a shared machine changes. Reported are medians:

  ImageFolder   torchvision.datasets.ImageFolder, resized and cropped, and a DataLoader with two worker processes
  prepared      dcgan's ImageFolder: the preparation, which happens once; a start with prepared images; an epoch

Without FOLDER, 5,000 JPEG files of 256 x 256 pixels are generated.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from dcgan.data.image_folder import ImageFolder
from dcgan.data.pixel_range import PixelRange
from experiments.bench import print_results, repeat_in_turns, start_benchmark

BATCH_SIZE = 128
WORKERS = 2  # of the DataLoader


def write_pictures(root: Path, n: int = 5000, size: int = 256) -> Path:
    """Write n smooth random pictures as JPEG files, one in ten of them to the test split."""
    rng = np.random.default_rng(0)
    for i in range(n):
        folder = root / ("train" if i % 10 else "test") / str(i % 2)
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{i:05}.jpg")
    return root


def build_loader(root: Path, size: int) -> DataLoader:
    steps = [
        transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(0.5, 0.5),
    ]
    dataset = datasets.ImageFolder(str(root / "train"), transforms.Compose(steps))
    return DataLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=WORKERS, drop_last=True)


def start(root: Path, size: int, cache: Path) -> ImageFolder:
    """Return the data module, ready for training."""
    n = sum(path.is_dir() for path in (root / "train").iterdir())
    data = ImageFolder(
        root=root,
        cache_dir=str(cache),
        image_size=size,
        channels=3,
        pixels=PixelRange(-1),
        batch_size=BATCH_SIZE,
        classes=n,
        labelled=True,
        on_broken="skip",
    )
    data.prepare_data()
    data.setup("fit")
    return data


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--size", type=int, default=64, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    start_benchmark(threads=1)  # on a shared machine, several wait for each other
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or write_pictures(Path(temporary, "pictures"))
        cache = Path(temporary, "cache")
        preparation = seconds(lambda: start(root, arguments.size, cache))
        second_start = seconds(lambda: start(root, arguments.size, cache))
        data, loader = start(root, arguments.size, cache), build_loader(root, arguments.size)

        def iterate_prepared() -> None:
            for batch in data.train_dataloader():
                data.on_after_batch_transfer(batch, 0)

        def iterate_loader() -> None:
            for _ in loader:
                pass

        epochs = {"ImageFolder": partial(seconds, iterate_loader), "prepared": partial(seconds, iterate_prepared)}
        times = repeat_in_turns(epochs, arguments.rounds)
        n, median = data.n_images, {name: statistics.median(values) for name, values in times.items()}
        n_files = len(data.files)
    speeds = {name: f"{n / value:,.0f}" for name, value in median.items()}
    print_results(
        [
            {"": "epoch of ImageFolder", "s": f"{median['ImageFolder']:.2f}", "images/s": speeds["ImageFolder"]},
            {"": "preparation, once", "s": f"{preparation:.2f}", "images/s": f"{n_files / preparation:,.0f}"},
            {"": "second start", "s": f"{second_start:.2f}", "images/s": ""},
            {"": "epoch of prepared images", "s": f"{median['prepared']:.2f}", "images/s": speeds["prepared"]},
        ]
    )
    ratio = median["ImageFolder"] / median["prepared"]
    print(f"{n:,} images, {arguments.size} x {arguments.size}: an epoch is {ratio:.0f} times as fast")


if __name__ == "__main__":
    main()
