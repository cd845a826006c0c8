"""POST /batches: a file in, a job for the worker, a file out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from flask import Response, send_file
from werkzeug.utils import secure_filename

from keepfit.app.http.history import job_out
from keepfit.app.http.routing import Call, Route
from keepfit.app.http.schemas import BatchForm, JobOut
from keepfit.data.records import Job, JobState, new_id
from keepfit.errors import BackendError, InvalidInput, NotFound, Refused

KINDS = re.compile(r"\.(csv|tsv|jsonl|parquet)(\.gz)?$", re.IGNORECASE)


def add_batch(call: Call, form: BatchForm) -> Any:
    """Hand in a file; the worker answers each row. Ask for the job by its id."""
    if call.served.task == "video":
        raise Refused("this model is of video: send a clip to POST /predict, or use `keepfit batch CLIPS OUT`")
    if not call.served.keeps_texts:
        raise Refused(
            "texts of this model must not be stored as they come [keep], and a file that is handed in would be: "
            "send texts to POST /predict, or use `keepfit batch IN OUT`"
        )
    suffix = suffix_of(form.file.filename or "")
    job_id = new_id()
    folder = call.service.batches / job_id
    source, target = folder / f"input{suffix}", folder / f"output{suffix}"
    save(form, source)
    request = {
        "source": str(source),
        "target": str(target),
        "name": secure_filename(form.file.filename or "") or source.name,
        "actor": call.caller.name,
    }
    job = Job(job_id, call.name, "batch", call.service.clock.now(), request=request)
    call.service.store.add_job(job)
    return job_out(job)


def batch(call: Call, id: str) -> Any:
    """Where a batch job stands."""
    return job_out(find(call, id))


def batch_output(call: Call, id: str) -> Response:
    """The answered file, once the job is done."""
    job = find(call, id)
    if job.state is not JobState.DONE:
        raise Refused(f"the job is {job.state}; its output is there when it is done")
    target = Path(job.request["target"])
    if not target.is_file():
        raise NotFound("the output is not here any more; hand the file in again")
    return send_file(target.absolute(), "application/octet-stream", True, f"answered-{job.request['name']}")


ROUTES = (
    Route("post", "/batches", add_batch, "predict", JobOut, status=202, form=BatchForm, errors=(409, 413, 415)),
    Route("get", "/batches/<id>", batch, "predict", JobOut),
    Route("get", "/batches/<id>/output", batch_output, "predict", errors=(409,),
          media={"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}),
)  # fmt: skip


def suffix_of(name: str) -> str:
    """The kind of a file by the end of its name. Raises InvalidInput for others.

    >>> suffix_of("Reviews 2024.CSV.gz")
    '.csv.gz'
    """
    found = KINDS.search(name)
    if found is None:
        raise InvalidInput(
            f"a file must end in .csv, .tsv, .jsonl or .parquet (or these with .gz), not {name!r}", "file"
        )
    return found[0].lower()


def save(form: BatchForm, target: Path) -> None:
    """Raises BackendError when the disk does not take it; nothing is left behind then."""
    try:
        target.parent.mkdir(parents=True)
        form.file.save(target)
    except OSError as error:
        shutil.rmtree(target.parent, ignore_errors=True)
        raise BackendError(
            f"the file could not be kept ({error.strerror}); free some disk space and try again"
        ) from error


def find(call: Call, id_: str) -> Job:
    """Raises NotFound when there is no such batch job of this model."""
    job = call.service.store.job(id_)
    if job.kind != "batch" or job.model != call.name:
        raise NotFound(f"there is no batch job {id_!r} of the model {call.name!r}")
    return job
