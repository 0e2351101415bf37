"""A dataset folder as a builder of `datasets`: prepared once and cached, or streamed.

`datasets.load_dataset(FOLDER)` reads the same tables by the folder's card; the builder is for those who work with builders.
"""

from collections.abc import Iterator
from typing import Any

from .configs import CONFIGS, config_files, dataset_folder, dtypes, fingerprint
from .errors import DataError

try:
    import datasets
    import pyarrow.parquet
except ImportError as error:
    raise ImportError("expected the package datasets, found none; pip install 'xrec[datasets]'") from error

BATCH = 1_000
"""Rows that are decoded at a time."""


class XRecExplanations(datasets.GeneratorBasedBuilder):
    """The tables of a dataset folder.

    The configs are `explanations` (the default), `interactions`, `users` and `items`, their columns those of `schema`; the
    splits are train, validation and test, beside them cold_user and cold_item where the folder has them, and one split
    called train for users and items. What is prepared is cached under the content of the files: a folder that was
    distilled again, or another folder, is prepared anew.

    Args:
        data_dir: a folder made by `xrec build`; `explanations` needs `xrec distill` too.
        config_name: one of the four; `explanations` if it is None.
        **options: what any `datasets` builder takes, for example `cache_dir`.

    Raises:
        DataError: there is no such folder or config, or the folder lacks the config's files; by the methods, the folder
            has changed since the builder was made.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS = [
        datasets.BuilderConfig(name=config.name, version=datasets.Version("1.0.0"), description=config.about)
        for config in CONFIGS.values()
    ]
    DEFAULT_CONFIG_NAME = "explanations"

    def __init__(self, data_dir: Any = None, config_name: str | None = None, **options: Any) -> None:
        if data_dir is None:
            raise DataError("expected data_dir, a folder made by `xrec build`, found none; give one")
        name = self.DEFAULT_CONFIG_NAME if config_name is None else config_name
        if name not in CONFIGS:
            raise DataError(f"expected a config among {', '.join(CONFIGS)}, found {name!r}; choose one")
        self._table = CONFIGS[name]
        self._folder = dataset_folder(data_dir)
        self._print = fingerprint(self._files())
        options = {"dataset_name": "xrec_explanations", "hash": self._print, **options}
        super().__init__(data_dir=str(self._folder.root), config_name=name, **options)

    def _files(self) -> dict[str, Any]:
        return config_files(self._folder, self._table)

    def _info(self) -> Any:
        features = datasets.Features({name: datasets.Value(dtype) for name, dtype in dtypes(self._table).items()})
        return datasets.DatasetInfo(description=self._table.about, features=features)

    def download_and_prepare(self, *args: Any, **options: Any) -> None:
        """Write the rows to the cache, unless they are there; arguments as for any `datasets` builder.

        Raises:
            DataError: the folder has changed since the builder was made.
        """
        self._require_unchanged()
        super().download_and_prepare(*args, **options)

    def as_streaming_dataset(self, *args: Any, **options: Any) -> Any:
        """Return the rows to iterate over, a batch in memory at a time; arguments as for any `datasets` builder.

        Raises:
            DataError: the folder has changed since the builder was made.
        """
        self._require_unchanged()
        return super().as_streaming_dataset(*args, **options)

    def _download_and_prepare(self, *args: Any, **options: Any) -> None:
        super()._download_and_prepare(*args, **options)
        self._require_unchanged()  # what was written goes again when it may be of two states

    def _require_unchanged(self) -> None:
        if fingerprint(self._files()) != self._print:
            raise DataError(f"{self._folder.root}: expected the folder as it was, found it changed; make a new builder")

    def _split_generators(self, dl_manager: Any) -> list[Any]:
        generators = []
        for split, path in self._files().items():
            # A list is what `datasets` divides among processes and data loader workers.
            groups = list(range(pyarrow.parquet.read_metadata(path).num_row_groups))
            generators.append(datasets.SplitGenerator(name=split, gen_kwargs={"path": str(path), "row_groups": groups}))
        return generators

    def _generate_examples(self, path: str, row_groups: list[int]) -> Iterator[tuple[Any, dict[str, Any]]]:
        columns = list(self._table.columns)
        with pyarrow.parquet.ParquetFile(path) as file:
            for number, group in enumerate(row_groups):
                row = 0
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=columns):
                    for example in batch.to_pylist():
                        yield datasets.builder.Key(number, row), example
                        row += 1
