"""`make demo`: the demo recipe on MNIST, or on the embedded digits where MNIST cannot be had."""

import sys

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from dcgan import cli, train
from dcgan.checks import UserError
from dcgan.data import MissingDataError


def main() -> None:
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = compose("train", overrides=[cli.quoted(a) for a in sys.argv[1:] if a.startswith("data.root=")])
    data = "mnist"
    try:
        instantiate(config.data).prepare_data()
    except MissingDataError:
        print(
            f"MNIST is not in {config.data.root} and cannot be downloaded: data=digits, which scikit-learn brings along"
        )
        data = "digits"
    except UserError as error:
        cli.fail(error)
    sys.argv[1:] = ["experiment=demo", "trainer=cpu", f"data={data}", *sys.argv[1:]]
    train.main()


if __name__ == "__main__":
    main()
