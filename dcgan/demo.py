"""`make demo`: the demo recipe on MNIST, or on the embedded digits where MNIST cannot be had."""

import sys

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from dcgan import cli, train
from dcgan.checks import UserError


def main() -> None:
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = compose("train")
    data = "mnist"
    try:
        instantiate(config.data).prepare_data()
    except UserError as error:
        print(f"{error}\nso this demo uses data=digits, the digits that scikit-learn brings along")
        data = "digits"
    sys.argv[1:] = ["experiment=demo", "trainer=cpu", f"data={data}", *sys.argv[1:]]
    train.main()


if __name__ == "__main__":
    main()
