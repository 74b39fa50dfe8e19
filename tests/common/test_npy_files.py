"""Reading .npy files that a user gives."""

import numpy as np
import pytest

from dcgan.common.errors import UserError
from dcgan.common.npy_files import read_npy


def write_header(path, header: str, content: bytes = bytes(64)) -> None:
    text = header.ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + content)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000, 28, 28), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 28, 28), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (65,), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': ((((2,), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': 'a', }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '|u1'}",
        "5",
        "",
    ],
)
def test_damaged_header_is_rejected(tmp_path, header):
    write_header(tmp_path / "a.npy", header)
    with pytest.raises(UserError, match=r"a\.npy cannot be read as an \.npy file") as caught:
        read_npy(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"text", b"\x80\x04K\x05."])
def test_other_file_is_rejected(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as an"):
        read_npy(tmp_path / "a.npy")


def test_archive_is_rejected(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"save one array with numpy\.save"):
        read_npy(tmp_path / "a.npz")
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cannot be read as an"):
        read_npy(tmp_path / "a.npz")


@pytest.mark.parametrize("array", [np.zeros((0, 28, 28)), np.arange(6).reshape(2, 3), np.array(5.0)])
def test_array_is_read(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(read_npy(tmp_path / "a.npy"), array)
    assert read_npy(tmp_path / "a.npy").shape == array.shape
