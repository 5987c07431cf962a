"""The archive of VOC2012: fetched once, checked, unpacked and never replaced."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import threading
from contextlib import nullcontext
from http.client import RemoteDisconnected
from urllib.error import URLError

import pytest
from huggingface_hub import constants, utils

from tests.unit.published_files import MARKS, VOC, build, check, voc
from wolfe.data import hub_fetch, hub_open, load_card
from wolfe.data.hub_sets import HUB_SETS


@pytest.fixture(autouse=True)
def small_set(monkeypatch):
    monkeypatch.setitem(HUB_SETS, "voc2012", VOC)


def archived(tmp_path, monkeypatch, before=lambda: None):
    """The archive of a kit, as what a download would bring, and how often it was asked for."""
    voc(tmp_path / "kit" / "VOCdevkit" / "VOC2012")
    archive, asked = tmp_path / "kit.tar", []
    with tarfile.open(archive, "w") as content:
        content.add(tmp_path / "kit" / "VOCdevkit", "VOCdevkit")

    def download(url, timeout):
        asked.append(url)
        before()
        return archive.open("rb")

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "kept"))
    monkeypatch.setattr(hub_fetch, "urlopen", download)
    for module in (hub_fetch, hub_open):
        monkeypatch.setattr(module, "VOC2012_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    return asked


def test_voc2012_is_fetched_once_and_checked(tmp_path, monkeypatch):
    asked = archived(tmp_path, monkeypatch)
    card = build("voc2012", None, tmp_path / "set")
    assert card["revision"] == "; ".join(
        f"VOC2012 {split}: archive with MD5 {hub_open.VOC2012_MD5}" for split in ("train", "validation")
    )
    build("voc2012", None, tmp_path / "again")
    assert len(asked) == 1 and asked[0].endswith("VOCtrainval_11-May-2012.tar")
    on = {name: [[int(mark == 1) for mark in marks] for marks in rows] for name, rows in MARKS.items()}
    check(tmp_path / "set", {"train": "train", "validation": "val"}, on)
    assert [path for path in (tmp_path / "kept").rglob("*") if path.suffix == ".tar"] == []


@pytest.mark.parametrize("locks", [True, False])
def test_what_one_process_fetched_is_not_replaced_by_another(tmp_path, monkeypatch, locks):
    """Two ask at once; where the file system does not heed locks both fetch, and the first that is ready is kept."""
    both = threading.Barrier(2)
    asked = archived(tmp_path, monkeypatch, before=(lambda: None) if locks else both.wait)
    if not locks:
        monkeypatch.setattr(utils, "WeakFileLock", lambda path: nullcontext())
    seen, kept = [], tmp_path / "kept" / "wolfe" / "VOC2012"

    def fetch():
        seen.append((hub_fetch.fetched_voc(VOC), kept.stat().st_ino))

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(kept, kept.stat().st_ino)] * 2 and len(asked) == (1 if locks else 2)
    assert {path.name for path in kept.parent.iterdir()} <= {"VOC2012", "VOC2012.lock"}


def test_a_damaged_archive_leaves_nothing(tmp_path, monkeypatch):
    archived(tmp_path, monkeypatch)
    monkeypatch.setattr(hub_fetch, "VOC2012_MD5", "0" * 32)
    with pytest.raises(ValueError, match=f"has the MD5 .*, not {'0' * 32}: try again"):
        build("voc2012", None, tmp_path / "set")
    assert [path for path in (tmp_path / "kept" / "wolfe").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize("error", [URLError("no network"), RemoteDisconnected("no network")])
def test_without_a_network_voc_says_what_to_do(tmp_path, monkeypatch, error):
    def refused():
        raise error

    archived(tmp_path, monkeypatch, before=refused)
    with pytest.raises(FileNotFoundError, match=r"cannot be fetched here .*no network.*unpack VOCtrainval.*data_root"):
        build("voc2012", None, tmp_path / "set")


def test_building_needs_no_torch(tmp_path):
    """A whole data set from the archive that a download left, in a process that has not imported torch."""
    voc(tmp_path / "home" / "wolfe" / "VOC2012" / "VOCdevkit" / "VOC2012")
    splits = {"train": "train[:3]", "validation": "train[3:]", "test": "validation"}
    entry = {"source": "hub", "collection": "voc2012", "size": 32, "splits": splits}
    code = (
        "import sys; from pathlib import Path; from wolfe.data import build_dataset, hub_sets;"
        "known = hub_sets.HUB_SETS; small = {'classes': 3, 'class_names': (), 'counts': {'train': 4, 'validation': 3}};"
        "known['voc2012'] = hub_sets.HubSet(**{**vars(known['voc2012']), **small});"
        f"build_dataset('voc', {entry}, Path({str(tmp_path / 'set')!r}), 0); print('torch' in sys.modules)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False" and load_card(tmp_path / "set")["counts"]["test"] == 3
