"""Index files and archives that may come from anywhere: nothing is read or written outside their folder."""

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import pandas as pd

from neardup.errors import UsageError

INDEX = "index.csv"


def is_archive(path: Path) -> bool:
    """Whether a path is meant as a ZIP file."""
    return path.suffix.lower() == ".zip"


def inside(folder: Path, name: str) -> Path:
    """The file of this name in a folder. Raises `UsageError` for a name that leads out of it."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/") or PureWindowsPath(name).drive or "\\" in name:
        raise UsageError(f"{name!r} leads out of {folder}; names must be relative, without '..' and '\\'")
    return folder.joinpath(*parts)


def extract(archive: zipfile.ZipFile, folder: Path) -> None:
    """Write every file of an archive into a folder. Raises `UsageError` before the first, where one must not be."""
    members = [(info, inside(folder, info.filename)) for info in archive.infolist() if not info.is_dir()]
    root = folder.resolve()
    for info, target in members:
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise UsageError(
                f"{info.filename!r} in {archive.filename} is a link or a device; only plain files are extracted"
            )
        if not target.resolve().is_relative_to(root):
            raise UsageError(f"{info.filename!r} in {archive.filename} leads out of {folder} through a link")
    for info, target in members:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)


def read_index(source: Path | IO[Any]) -> pd.DataFrame:
    """A table written with `to_csv`: only an empty cell is null, and names stay text whatever they look like."""
    df = pd.read_csv(source, keep_default_na=False, na_values=[""], dtype=str)
    for column in df.columns:
        if column in ("category", "hasher_hash_length"):
            df[column] = _numbers(df[column])
    return df


def _numbers(column: pd.Series) -> pd.Series:
    """Integers where every value is the usual text of one."""
    if not column.isna().any() and all(value.removeprefix("-").isdecimal() for value in column):
        numbers = [int(value) for value in column]
        if [str(number) for number in numbers] == column.tolist():
            return pd.Series(numbers, index=column.index)
    return column
