"""Parts in and out."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa

from neardup import tables

READS = """
import os, sys
from neardup import tables
def threads():
    return len(os.listdir("/proc/self/task"))
before = threads()
assert len(tables.read_part(sys.argv[1], "part.parquet")) == len(tables.read_row_group(sys.argv[1], "part.parquet", 0))
tables.read_part(sys.argv[1], "part.parquet", ["uri"]), tables.schema_of(sys.argv[1], "part.parquet")
print(threads() - before)
"""


def test_no_thread_outlives_the_reading_of_a_part(tmp_path: Path) -> None:
    """One that frees what it read while Python ends would abort it, once in fifty times."""
    rows = pa.table({"uri": [f"file:///{number}" for number in range(1000)], "size": range(1000)})
    tables.write_row_groups(f"file://{tmp_path}", "part.parquet", [rows])
    command = [sys.executable, "-c", READS, f"file://{tmp_path}"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "0\n"
