"""An Airflow DAG: measure a model every hour, retrain it when `keepfit check` says so, and judge what came of it.

`keepfit check` exits with 0 when nothing is to be done and with 10 when a retraining is wanted (it has been asked for
then); anything else is a failure. `keepfit gate` exits with 1 when the candidate must not pass. Set the Airflow
variable `keepfit_project` to the project's folder, and `keepfit_fresh` to a labelled file that no version has seen.
Where a worker runs (`keepfit up`) it checks by itself every minute, and this DAG is not needed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow import DAG
from airflow.providers.standard.operators.bash import BashOperator

PROJECT = "{{ var.value.keepfit_project }}"
FRESH = "{{ var.value.keepfit_fresh }}"

with DAG(
    dag_id="keepfit_hourly",
    start_date=datetime(2025, 1, 1),
    schedule="@hourly",
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
) as dag:
    # exit code 0 skips what follows: nothing is to be done; 10 goes on: a retraining is wanted
    check = BashOperator(
        task_id="check",
        bash_command=f'keepfit check --project "{PROJECT}"; code=$?; '
        "if [ $code -eq 10 ]; then exit 0; elif [ $code -eq 0 ]; then exit 99; else exit $code; fi",
        skip_on_exit_code=99,
    )
    retrain = BashOperator(
        task_id="retrain",
        bash_command=f'keepfit retrain --wait --project "{PROJECT}"',
        execution_timeout=timedelta(hours=6),
    )
    # the retraining has its own gate; this one judges the newest version on data of your choice, and fails the run
    gate = BashOperator(
        task_id="gate",
        bash_command=f'keepfit gate "{FRESH}" --project "{PROJECT}"',
        retries=0,
    )
    check >> retrain >> gate
