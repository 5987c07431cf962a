"""Fetches published sets: parquet files by the hub's own client, and the archive of VOC2012."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import cast
from urllib.request import urlopen

from wolfe.data.hub_sets import HubSet

# As torchvision names them.
_VOC2012 = "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
VOC2012_MD5 = "6cd6e144f989b92b3379bac3b3de84fd"
# Seconds without a byte after which a server counts as unreachable.
_PATIENCE = 60


def listed(known: HubSet, revision: str) -> list[PurePosixPath]:
    """The files of a repository of the hub.

    Raises:
        FileNotFoundError: it cannot be reached; the message says what to do.
    """
    from huggingface_hub import HfApi

    with _explained(known):
        names = HfApi().list_repo_files(known.repository, repo_type="dataset", revision=revision)
    return [PurePosixPath(name) for name in names]


def fetched(known: HubSet, revision: str, patterns: Sequence[str]) -> Path:
    """The folder that the hub's own client keeps, named by the commit, with at least the files of some patterns.

    Raises:
        FileNotFoundError: they cannot be fetched; the message says what to do.
    """
    from huggingface_hub import snapshot_download

    with _explained(known):
        return Path(
            snapshot_download(known.repository, repo_type="dataset", revision=revision, allow_patterns=list(patterns))
        )


@contextmanager
def _explained(known: HubSet) -> Iterator[None]:
    """Turns what the hub's client raises into words that say what to do."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    # The client hands on some errors of the HTTP library beneath it, which differs by the client's version.
    unreachable = cast(tuple[type[Exception], ...], (OSError, *HfHubHTTPError.__bases__))
    remedy = f"fetch {known.repository} on a machine with a network and name its folder as data_root"
    try:
        yield
    except GatedRepoError as error:
        raise FileNotFoundError(
            f"hub: {known.repository} is gated: accept its terms on its page with an account, then give that account's "
            f"access token in HF_TOKEN (or run hf auth login); or {remedy}"
        ) from error
    except unreachable as error:
        raise FileNotFoundError(f"hub: {known.repository} cannot be fetched here ({error}): {remedy}") from error


def fetched_voc(known: HubSet) -> Path:
    """The folder with the unpacked archive of VOC2012 beside what the hub's client keeps, fetched if it is not there.

    Several processes may ask at once: one fetches, and none replaces what another may be reading.

    Raises:
        FileNotFoundError: it cannot be fetched; the message says what to do.
        ValueError: what came is not the archive.
    """
    from huggingface_hub.constants import HF_HOME
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    kept = Path(HF_HOME) / "wolfe" / known.repository
    kept.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(kept.with_suffix(".lock")):
        if kept.is_dir():
            return kept
        with TemporaryDirectory(prefix=f".{known.repository}.", dir=kept.parent) as place:
            archive, folder = Path(place) / "archive.tar", Path(place) / "content"
            _fetch_archive(known, archive)
            with tarfile.open(archive) as content:
                content.extractall(folder, filter="data")
            _keep(folder, kept)
    return kept


def _keep(folder: Path, kept: Path) -> None:
    """Gives a finished folder its name, unless another has it already: not every file system heeds locks."""
    try:
        folder.rename(kept)
    except OSError:
        if not kept.is_dir():
            raise


def _fetch_archive(known: HubSet, archive: Path) -> None:
    try:
        with urlopen(_VOC2012, timeout=_PATIENCE) as answer, archive.open("wb") as stream:
            shutil.copyfileobj(answer, stream, 1 << 20)
    except (OSError, HTTPException) as error:
        raise FileNotFoundError(
            f"hub: {known.title} cannot be fetched here ({error}): unpack {_VOC2012.rsplit('/', 1)[-1]} and name "
            "the folder that holds VOCdevkit as data_root"
        ) from error
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != VOC2012_MD5:
        raise ValueError(f"hub: the archive of {known.title} has the MD5 {found}, not {VOC2012_MD5}: try again")
