"""What becomes of the memory that a training step frees."""

import ctypes

# numbers and meaning: man 3 mallopt
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, for this process. As it comes it gives large tensors back to the kernel, and each
    step pays for the same pages again (experiments/hot_path). Nothing is changed where the C library has no mallopt."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
