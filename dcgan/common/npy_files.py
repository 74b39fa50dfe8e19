"""Read the .npy files that a user gives."""

from pathlib import Path

import numpy as np

from dcgan.common.errors import UserError, first_line


def read_npy(path: Path) -> np.ndarray:
    """Return the array of an .npy file. UserError if the file is missing, damaged or holds anything else."""
    if not path.is_file():
        raise UserError(f"there is no file {path}: give an .npy file")
    try:
        return np.array(np.lib.format.open_memmap(path, mode="r"))  # checks the shape against the size of the file
    except Exception as error:  # NumPy raises a dozen types for a damaged file
        reason = first_line(error)
        raise UserError(f"{path} cannot be read as an .npy file ({reason}): save one array with numpy.save") from error
