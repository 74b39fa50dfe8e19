"""Read the .npy files that a user gives."""

from pathlib import Path

import numpy as np

from dcgan.common.errors import UserError, first_line


def read_npy(path: Path) -> np.ndarray:
    """Return the array of an .npy file. UserError if the file is missing, damaged or holds anything else."""
    if not path.is_file():
        raise UserError(f"there is no file {path}: give an .npy file")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an .npy file ({first_line(error)})") from error
    if not isinstance(array, np.ndarray):  # an .npz file
        raise UserError(f"{path} holds several arrays: save only one, with numpy.save")
    return array
