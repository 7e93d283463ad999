"""What a process asks of the interpreter, the C library and the scheduler: it lives on large arrays, beside others."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading

import numpy as np

_NICE = 10
_KEPT_BYTES = 31 * 2**20
_ALLOCATIONS_BETWEEN_COLLECTIONS = 100_000


def keep_freed() -> None:
    """Has the C library keep freed memory for the next arrays, where it would give it back and have it zeroed again.

    glibc keeps up to twice the size of the largest block that was ever mapped for itself and freed, up to 32 MiB
    (mallopt(3), M_MMAP_THRESHOLD); elsewhere this does nothing.
    """
    np.empty(_KEPT_BYTES, np.uint8)


def collect_seldom() -> None:
    """Looks for reference cycles seldom, and not among what is there already: for work that makes objects without any."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def step_back() -> None:
    """Lets others go first: who waits for an acknowledgement waits, who waits for a release does not.

    On Linux this is a matter of the calling thread and of those that it starts; elsewhere it does nothing.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, max(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))


def end_with_parent() -> None:
    """Has this process end when the one that started it does, however that ends; for processes of `multiprocessing`."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
