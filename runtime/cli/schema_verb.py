"""``refreshd schema``: the documents from which other languages make their clients."""

import json
import sys
from pathlib import Path
from typing import Literal

from cyclopts import App

from runtime.config import load_config
from runtime.contract.asyncapi import asyncapi
from runtime.contract.schemas import json_schema


def add_schema_verb(app: App) -> None:
    """Add the verb to the command line."""
    app.command(schema)


def schema(
    kind: Literal["asyncapi", "json"] = "asyncapi", /, *, config: Path | None = None
) -> None:
    """Print what refreshd takes, answers and tells, for programs to read.

    Parameters
    ----------
    kind
        asyncapi: an AsyncAPI document, of the configured subject prefix.
        json: JSON Schemas of bodies, answers and events.
    config
        The TOML file, for its prefix; $REFRESHD_CONFIG.
    """
    document = asyncapi(load_config(config).service.prefix) if kind == "asyncapi" else json_schema()
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
