"""Studies: what finished searches have left in the database of trials, listed and deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import optuna
from sqlalchemy.exc import SQLAlchemyError

from keepfit.errors import BackendError


def studies(url: str) -> Sequence[tuple[str, datetime]]:
    """The name of each search in a database, and when its last trial was begun or ended; empty without a file."""
    if _missing(url):
        return ()
    with _opened(url) as storage:
        return [(name, _last(storage, name)) for name in optuna.get_all_study_names(storage)]


def delete_study(url: str, name: str) -> None:
    """Delete a search with its trials; nothing happens when it is gone."""
    if _missing(url):
        return
    with _opened(url) as storage:
        if name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)


def _missing(url: str) -> bool:
    """Whether it is a SQLite file that is not there; asking must not make it."""
    file = url.removeprefix("sqlite:///")
    return file != url and not Path(file).is_file()


def _last(storage: optuna.storages.RDBStorage, name: str) -> datetime:
    trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    moments = [moment for trial in trials for moment in (trial.datetime_start, trial.datetime_complete) if moment]
    local = max(moments, default=None)  # Optuna writes the machine's own time, without a zone
    return datetime(1970, 1, 1, tzinfo=UTC) if local is None else local.astimezone(UTC)


@contextmanager
def _opened(url: str) -> Iterator[optuna.storages.RDBStorage]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    try:
        storage = optuna.storages.RDBStorage(url)
        yield storage
    except SQLAlchemyError as error:
        raise BackendError(f"the database of the trials failed ({error}); check the disk, or the server") from error
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()
