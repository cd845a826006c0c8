"""Who acts: the name that the record of a change keeps."""

from __future__ import annotations

import os
import pwd


def actor() -> str:
    """Who runs this command: the account of the process, which no variable of the environment can feign."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in containers, accounts often have no name
        return f"user {os.geteuid()}"
