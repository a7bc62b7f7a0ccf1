"""What every benchmark table is: a data frame of known columns, which is filtered, saved with its files and loaded."""

import os
import shutil
import uuid
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

import pandas as pd

from neardup.benchmarking.archives import INDEX, extract, inside, is_archive, read_index
from neardup.errors import RunError, UsageError
from neardup.hashers.spec import suggestion
from neardup.hashers.tools import compute_md5


class BenchmarkError(UsageError, AssertionError):
    """What was asked of a benchmark cannot be meant (also an AssertionError, which the reference raises)."""


class ChangedFileError(RunError, AssertionError):
    """A file is not the one that was saved (also an AssertionError, which the reference raises)."""


class Filterable:
    """A data frame with exactly the columns of its class."""

    expected_columns: ClassVar[list[str]]

    def __init__(self, df: pd.DataFrame) -> None:
        if sorted(df.columns) != sorted(self.expected_columns):
            raise BenchmarkError(
                f"Column mismatch: Expected {sorted(self.expected_columns)}, found {sorted(df.columns)}."
            )
        self._df = df

    @property
    def df(self) -> pd.DataFrame:
        """The table itself."""
        return self._df

    @property
    def categories(self) -> Any:
        """The distinct categories, in order of appearance."""
        return self._df["category"].unique()

    def filter(self, **included: Iterable[Any]) -> Self:
        """Only the rows whose columns have one of the values given: `filter(category=["photographs"])`.

        A value that does not occur is a `UserWarning`, a column that does not exist a `UsageError`.
        """
        df = self._df
        for column, wanted in included.items():
            if column not in self._df.columns:
                raise UsageError(f"no column {column!r}; {suggestion(column, self._df.columns)}")
            values = [wanted] if isinstance(wanted, str) else list(wanted)
            existing = set(self._df[column].unique())
            missing = [str(value) for value in values if value not in existing]
            if missing:
                warnings.warn(
                    f"Did not find {', '.join(missing)} in column {column} dataset.", UserWarning, stacklevel=2
                )
            df = df[df[column].isin(values)]
        return self.__class__(df.copy())


class Saveable(Filterable):
    """A table with a column filepath whose files are saved and loaded with it."""

    @classmethod
    def load(
        cls,
        path_to_zip_or_directory: str | Path,
        storage_dir: str | Path | None = None,
        verify_md5: bool = True,
    ) -> Self:
        """The table that `save` wrote to a folder or a ZIP file.

        A ZIP file is extracted to `storage_dir`, by default a folder of its name beside it, unless all its files are
        there already, with the right MD5 where `verify_md5` asks for that. Raises `BenchmarkError` for a `storage_dir`
        where there is nothing to extract and for names that lead out of the folder, `ChangedFileError` for a file with
        another MD5, `MissingError` for one that is not there.
        """
        path = Path(path_to_zip_or_directory)
        if is_archive(path):
            folder = Path(storage_dir) if storage_dir is not None else path.absolute().with_suffix("")
            index, verify_md5 = _extracted(path, folder, verify_md5)
        elif storage_dir is not None:
            raise BenchmarkError(f"Storage directory only valid if path is to ZIP file; {path} is a folder")
        else:
            index = _located(read_index(path / INDEX), path)
        if verify_md5:
            changed = _changed(index)
            if changed:
                raise ChangedFileError(f"An md5 mismatch has occurred. {changed[0]} (and {len(changed) - 1} more)")
        return cls(index.drop(columns=["filename", "md5"]))

    def save(self, path_to_zip_or_directory: str | Path) -> None:
        """Write the files and `index.csv` (filename, md5 and the other columns) to a folder or a ZIP file.

        Files keep their names; where two have the same, all get new ones, and a `UserWarning` says so.
        """
        path = Path(path_to_zip_or_directory)
        index = self._df.assign(
            filename=_names(self._df["filepath"]),
            md5=[None if pd.isnull(file) else compute_md5(file) for file in self._df["filepath"]],
        )
        files = [
            (file, name) for file, name in zip(index["filepath"], index["filename"], strict=True) if not pd.isnull(file)
        ]
        text = index.drop(columns="filepath").to_csv(index=False)
        if is_archive(path):
            _write_archive(path, text, files)
        else:
            _write_folder(path, text, files)


class Dataset(Saveable):
    """One row per file and its category."""

    expected_columns: ClassVar[list[str]] = ["filepath", "category"]

    @classmethod
    def from_tuples(cls, files: Iterable[tuple[str | Path, Any]]) -> Self:
        """The dataset of (path, category) pairs."""
        rows = [(os.fspath(path), category) for path, category in files]
        return cls(pd.DataFrame(rows, columns=cls.expected_columns))


def _names(paths: pd.Series) -> list[str | None]:
    names = [None if pd.isnull(path) else Path(path).name for path in paths]
    present = [name for name in names if name is not None]
    if len({*present, INDEX}) == len(present) + 1:
        return names
    warnings.warn("Changing filenames to UUID due to duplicates.", UserWarning, stacklevel=3)
    return [None if name is None else f"{uuid.uuid4()}{Path(name).suffix}" for name in names]


def _write_archive(path: Path, index: str, files: list[tuple[str, str]]) -> None:
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with zipfile.ZipFile(part, "w") as archive:  # stored as they are: pictures do not get smaller
            archive.writestr(INDEX, index)
            for file, name in files:
                archive.write(file, name)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_folder(folder: Path, index: str, files: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, name in files:
        if os.path.realpath(file) != os.path.realpath(folder / name):
            shutil.copy(file, folder / name)
    (folder / INDEX).write_text(index, encoding="utf-8", newline="")


def _extracted(path: Path, folder: Path, verify_md5: bool) -> tuple[pd.DataFrame, bool]:
    """The index of an archive whose files are now in `folder`, and whether their MD5 is still to be verified."""
    with zipfile.ZipFile(path) as archive:
        with archive.open(INDEX) as file:
            index = _located(read_index(file), folder)
        present = all(Path(each).is_file() for each in index["filepath"].dropna())
        if present and not (verify_md5 and _changed(index)):
            return index, False
        extract(archive, folder)
    return index, verify_md5


def _located(index: pd.DataFrame, folder: Path) -> pd.DataFrame:
    missing = [column for column in ("filename", "md5") if column not in index.columns]
    if missing:
        raise BenchmarkError(f"{INDEX} in {folder} has no column {missing[0]!r}; was it written by save()?")
    names = [None if pd.isnull(name) else str(inside(folder, str(name))) for name in index["filename"]]
    return index.assign(filepath=pd.Series(names, index=index.index, dtype=object))


def _changed(index: pd.DataFrame) -> list[str]:
    pairs = zip(index["filepath"], index["md5"], strict=True)
    return [path for path, md5 in pairs if not pd.isnull(path) and compute_md5(path) != md5]
