"""Real photos, real tables: what several tests need."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neardup import storage

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
PHOTOS = sorted((SAMPLES / "perception").glob("*.jpg"))
LONGEST = ("test_readme.py", "test_machines_apart.py", "test_threads.py", "test_dedup.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: where several processes run the tests, none waits for the last."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with the ten reference photos, to be changed at will."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in PHOTOS:
        shutil.copy(photo, folder)
    return folder


def rows(output: Path, table: str) -> list[dict[str, object]]:
    """The live rows of one table folder, as the manifest names them."""
    names = storage.read_manifest(storage.absolute(str(output))).get(table, [])
    parts = [pq.ParquetFile(output / name).read() for name in names]
    if not parts:
        return []
    return pa.concat_tables([part.replace_schema_metadata(None) for part in parts]).to_pylist()


def all_rows(output: Path) -> dict[str, list[str]]:
    """Every live row of every table, as sorted text: equal for equal outputs whatever their parts."""
    return {table: sorted(map(str, rows(output, table))) for table in _tables(output)}


def _tables(output: Path) -> list[str]:
    return sorted(storage.read_manifest(storage.absolute(str(output))))
