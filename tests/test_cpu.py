"""Memory that is freed and asked for again comes from the process, and MKL is told before it starts."""

import io
import os
import platform
import subprocess
import sys

import pytest

from dcgan.cpu import ask_mkl_for_other_kernels

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")

FAULTS = """
import resource
from dcgan.cpu import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        bytearray(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

as_it_comes = faults()
keep_freed_memory()
faults()  # what it keeps, it must first have
print(as_it_comes, faults())
"""


def faults(**environment: str) -> tuple[int, int]:
    process = subprocess.run(
        [sys.executable, "-c", FAULTS], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    as_it_comes, kept = map(int, process.stdout.split())
    return as_it_comes, kept


@glibc
def test_freed_memory_is_kept():
    as_it_comes, kept = faults()
    assert kept * 20 < as_it_comes


@glibc
def test_a_users_own_settings_of_malloc_stay():
    as_it_comes, kept = faults(MALLOC_MMAP_THRESHOLD_="65536")
    assert kept * 2 > as_it_comes


@pytest.mark.parametrize(
    ("vendor", "own", "told"),
    [
        ("AuthenticAMD", None, "AUTO"),
        ("GenuineIntel", None, None),
        ("AuthenticAMD", "AVX2", "AVX2"),
        (None, None, None),
    ],
)
def test_mkl_is_asked_for_other_kernels_on_amd_alone(monkeypatch, vendor, own, told):
    def cpuinfo(path):
        assert str(path) == "/proc/cpuinfo"
        if vendor is None:
            raise FileNotFoundError(path)  # not on Linux
        return io.StringIO(f"processor\t: 0\nvendor_id\t: {vendor}\n")

    monkeypatch.setattr("pathlib.Path.open", cpuinfo)
    monkeypatch.setenv("MKL_CBWR", "")
    monkeypatch.delenv("MKL_CBWR")
    if own is not None:
        monkeypatch.setenv("MKL_CBWR", own)
    ask_mkl_for_other_kernels()
    assert os.environ.get("MKL_CBWR") == told


def test_a_command_tells_mkl_before_torch_is_there():
    code = """
import sys
from dcgan import cli
cli.ask_mkl_for_other_kernels = lambda: print("asked, torch" if "torch" in sys.modules else "asked")
from dcgan import train
train.main()
"""
    process = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert process.stdout.splitlines()[0] == "asked"
