"""Arrays that are freed and wanted again cost no new pages."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from pfnano_tag.nano.allocation import keep_freed_memory
assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def chunk():
    return [np.full(1 << 18, i) for i in range(20)]  # twenty arrays of 2 MB
chunk()
before = faults()
for _ in range(10):
    chunk()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the GNU C library alone is told")
def test_the_arrays_of_a_chunk_use_the_memory_of_the_one_before():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < 200  # ten times 40 MB are 100,000 pages
