"""The commented keepfit.toml that `keepfit init` writes."""

from __future__ import annotations

HEAD = """\
# keepfit's settings. Every setting is optional; docs/reference/settings.md lists them all with their defaults.
# KEEPFIT_SERVER__PORT=9000 in the environment overrides [server] port. Secrets: "env:NAME" or "file:PATH".

# timezone = "Europe/Berlin"            # rules schedules and days
# store = "postgresql://..."            # records; default: SQLite in .keepfit/
# tracking = "http://127.0.0.1:5000"    # an MLflow server; default: SQLite in .keepfit/

[server]
host = "127.0.0.1"                      # any other address needs tokens
port = 8080

[alerts]
mailbox = true                          # keeps every alert as a file in .keepfit/mailbox
# urls = ["env:SLACK_URL"]              # anything that Apprise knows
# [alerts.email]
# host = "smtp.gmail.com"
# user = "me@example.com"
# password = "env:SMTP_PASSWORD"
# to = ["team@example.com"]

# [retention]                           # what is old may go; 0 or unset: kept for ever
# predictions_for = "400d"
# versions_most = 20

[models.default]
"""

TAIL = """\
labels = "volunteered"                  # what unasked labels are; "complete" where every outcome becomes known
approval = false                        # true: a version that passed its gate waits for `keepfit approve`

# [models.default.columns]              # guessed when left out
# text = ["subject", "body"]
# label = "category"

[models.default.recipe]
# backbone = "minilm"                   # or distilbert-base-uncased, or a folder
# max_tokens = 256

[models.default.watch]
every = "1m"
label_rate = 0.05                       # share of answers whose label is asked for
label_budget = 200                      # per day

# [models.default.rollout]              # how a version that passed its gate gets its traffic; docs/rollout.md
# strategy = "canary"                   # or immediate (unless set), shadow, blue_green, ab
# steps = [0.01, 0.05, 0.25]            # growing shares, then everything

# Any of these calls for a retraining.
[[models.default.triggers]]
kind = "accuracy_floor"
floor = 0.80

[[models.default.triggers]]             # a version that learns from new labels is rarely worse; docs/decisions.md
kind = "all_of"
triggers = [{ kind = "period", days = 30 }, { kind = "new_labels", amount = 100 }]

[[models.default.triggers]]
kind = "on_demand"

[[models.default.triggers]]
kind = "on_event"

# [[models.default.triggers]]
# kind = "schedule"
# cron = "0 3 * * 1"
"""


VIDEO_TAIL = """\
approval = false                        # true: a version that passed its gate waits for `keepfit approve`

[models.default.recipe.video]
budget_minutes = 20                     # time for a training
alarms_per_day = 1                      # the budget of false alarms
# profile = "gpu"                       # the size of the denoiser; auto unless set
# head = "cells"                        # or global, cnn_only, none

[models.default.watch]
every = "1m"
label_rate = 0.05                       # share of the answered windows whose label is asked for
label_budget = 200                      # per day

# [models.default.rollout]              # how a version that passed its gate gets its traffic; docs/rollout.md
# strategy = "canary"                   # or immediate (unless set), shadow, blue_green, ab
# steps = [0.01, 0.05, 0.25]            # growing shares, then everything

# Any of these calls for a retraining.
[[models.default.triggers]]
kind = "on_demand"

[[models.default.triggers]]
kind = "on_event"
"""


def project_file(task: str) -> str:
    """The text of the file."""
    return f'{HEAD}task = "{task}"\n{VIDEO_TAIL if task == "video" else TAIL}'
