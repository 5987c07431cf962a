"""Writes what a rule's parameter `content` holds as JSON; as an argument of a command it could be too long."""

import json
from pathlib import Path

content = json.dumps(snakemake.params.content, indent=2)  # noqa: F821
Path(snakemake.output[0]).write_text(content + "\n", encoding="utf-8")  # noqa: F821
