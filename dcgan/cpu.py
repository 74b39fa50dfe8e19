"""Settings of the C libraries below torch, for this process, that make a training on a CPU faster."""

import ctypes
import os
import platform
from itertools import islice
from pathlib import Path

# numbers and meaning: man 3 mallopt
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = (2**30, 2**25)  # bytes; the second is all that glibc before 2.35 takes


def ask_mkl_for_other_kernels() -> None:
    """On AMD's processors MKL multiplies matrices faster by the code that it takes when asked for the same result
    wherever a matrix lies in memory (Intel's "conditional numerical reproducibility"). To be called before torch
    computes anything, for MKL reads the variable once; what the user has set stays."""
    try:
        with Path("/proc/cpuinfo").open() as processors:
            amd = any("AuthenticAMD" in line for line in islice(processors, 5))
    except OSError:
        return
    if amd:
        os.environ.setdefault("MKL_CBWR", "AUTO")


def keep_freed_memory() -> None:
    """Let glibc keep what is freed. As it comes it gives tensors above 32 MB back to the kernel, and each step pays for
    the same pages again (experiments/hot_path); the price is that the process stays as large as it once was. Nothing is
    changed with another C library, and where the user's environment has settings of malloc."""
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = ctypes.CDLL(None).mallopt
    # setting either ends glibc's own growing of both, so the second is set only where the first was taken
    if any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGEST):
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
