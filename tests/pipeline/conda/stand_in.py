"""What the tests call conda: as much of its command line as Snakemake uses, over a channel in a folder.

    python stand_in.py --version
    python stand_in.py info --json
    python stand_in.py config --get channel_priority --json
    python stand_in.py clean -y --tarballs          (of which there are none)
    python stand_in.py env create --quiet --no-default-packages --file FILE --prefix FOLDER

It is no conda: solver and installer are rattler's, and `CONDA_CHANNELS` names the folder in which each channel is a
folder of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path

import rattler
import yaml


def create(file: Path, prefix: Path) -> None:
    """Solves an environment's file and installs what was found.

    Args:
        file: of the environment.
        prefix: the environment's folder.
    """
    wanted = yaml.safe_load(file.read_text(encoding="utf-8"))
    root = Path(os.environ["CONDA_CHANNELS"])
    channels = [(root / name).as_uri() for name in wanted["channels"] if name != "nodefaults"]
    specs = [rattler.MatchSpec(requirement, strict=True) for requirement in wanted["dependencies"]]

    async def install() -> None:
        records = await rattler.solve(channels, specs, platforms=["linux-64", "noarch"])
        await rattler.install(records, prefix, cache_dir=root / "cache", show_progress=False)

    asyncio.run(install())
    # Threads of the library may not have ended, and an interpreter that takes itself apart under them crashes.
    os._exit(0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    for name in ("--version", "--json", "--quiet", "--no-default-packages", "-y", "--tarballs"):
        parser.add_argument(name, action="store_true")
    for name in ("--get", "--file", "--prefix"):
        parser.add_argument(name)
    asked = parser.parse_args()
    if asked.version:
        print("conda 25.1.1")
    elif asked.words == ["info"]:
        print(json.dumps({"conda_prefix": str(Path(__file__).parent), "platform": "linux-64"}))
    elif asked.words == ["config"] and asked.get == "channel_priority":
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif asked.words == ["env", "create"]:
        create(Path(asked.file), Path(asked.prefix))
    elif asked.words != ["clean"]:
        parser.error(f"what Snakemake asks is not known here: {asked}")


if __name__ == "__main__":
    main()
