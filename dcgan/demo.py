"""`make demo`: train the demo recipe on MNIST, or on scikit-learn's digits if MNIST is missing."""

import sys

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from dcgan import train
from dcgan.common import command
from dcgan.common.errors import UserError
from dcgan.data.torchvision import MissingDataError


def main() -> None:
    with initialize_config_dir(str(command.CONF), version_base="1.3"):
        config = compose(
            "train", overrides=[command.clean_override(a) for a in sys.argv[1:] if a.startswith("data.root=")]
        )
    data = "mnist"
    try:
        instantiate(config.data).prepare_data()
    except MissingDataError:
        print(f"MNIST is not in {config.data.root} and cannot be downloaded: using scikit-learn's digits (data=digits)")
        data = "digits"
    except UserError as error:
        command.fail(error)
    sys.argv[1:] = ["experiment=demo", "trainer=cpu", f"data={data}", *sys.argv[1:]]
    train.main()


if __name__ == "__main__":
    main()
