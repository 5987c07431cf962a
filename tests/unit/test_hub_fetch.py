"""Files of published sets from the hub: which are fetched and used, and what is said where they cannot be."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.unit.published_files import TINY, spec, write_tiny
from wolfe.data import build_dataset, load_card
from wolfe.data.hub_files import split_files
from wolfe.data.hub_sets import HUB_SETS, HubSet
from wolfe.data.hub_shards import spread


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with a set of two splits, one of them in two files."""
    monkeypatch.setitem(HUB_SETS, "tiny", TINY)
    return write_tiny(tmp_path / "hub")


def failing(monkeypatch, error):
    """The hub's client without a network, whatever it is asked."""
    import huggingface_hub

    def refused(*_: object, **__: object):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", refused)


def unreachable():
    """Errors of the hub's client, and of the library beneath it, which is no OSError, where there is no network."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    beneath = HfHubHTTPError.__bases__[0]
    return [LocalEntryNotFoundError("no network"), OfflineModeIsEnabled("no network"), beneath("no network")]


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("error", unreachable(), ids=lambda error: type(error).__name__)
def test_without_a_network_the_remedy_is_named(monkeypatch, error, most):
    failing(monkeypatch, error)
    with pytest.raises(FileNotFoundError, match=r"someone/tiny cannot be fetched here .no network.*name its folder as"):
        split_files(TINY, "train", None, "main", most)


@pytest.mark.parametrize("most", [None, 2])
def test_a_gated_set_says_how_to_get_in(monkeypatch, most):
    from huggingface_hub.errors import GatedRepoError

    failing(monkeypatch, GatedRepoError("gated", response=SimpleNamespace(headers={}, request=None)))
    with pytest.raises(FileNotFoundError, match=r"is gated: accept its terms.*HF_TOKEN.*data_root"):
        split_files(TINY, "train", None, "main", most)


def test_a_fetched_set_is_known_by_its_revision(root, monkeypatch):
    import huggingface_hub

    asked = {}

    def fetched(repository, repo_type, revision, allow_patterns):
        asked.update(repository=repository, repo_type=repo_type, revision=revision, patterns=allow_patterns)
        return str(root)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    files, said = split_files(TINY, "train", None, "abc")
    assert [path.name[:11] for path in files] == ["train-00000", "train-00001"] and said == f"revision {root.name}"
    assert asked["repository"] == "someone/tiny" and asked["revision"] == "abc" and asked["repo_type"] == "dataset"
    assert asked["patterns"] == ["*train-*.parquet"]


def test_the_known_revision_is_fetched_unless_another_is_named(root, tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def fetched(repository, repo_type, revision, allow_patterns):
        asked.append((revision, *allow_patterns))
        return str(root)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    monkeypatch.setitem(
        HUB_SETS, "tiny", HubSet(**{**vars(TINY), "revision": "right", "files": (("test", ("eval", "test")),)})
    )
    for revision in (None, "other"):
        build_dataset("tiny", spec(root, {"data_root": None, "revision": revision}), tmp_path / "set", 0)
    assert asked == [
        (revision, *patterns)
        for revision in ("right", "other")
        for patterns in (["*train-*.parquet"], ["*eval-*.parquet", "*test-*.parquet"])
    ]
    assert load_card(tmp_path / "set")["revision"] == (
        f"someone/tiny train: revision {root.name}; someone/tiny test: revision {root.name}"
    )


def test_only_the_files_that_are_asked_for_are_fetched_and_used(tmp_path, monkeypatch):
    """The client's folder keeps what was fetched before; which files are used does not depend on that."""
    import huggingface_hub

    names = [f"data/train-{number:05d}-of-00010.parquet" for number in range(10)]
    asked = []

    def fetched(repository, repo_type, revision, allow_patterns):
        asked.append((repository, repo_type, revision))
        for name in allow_patterns:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return str(tmp_path)

    def listed(_, repository, repo_type, revision):
        asked.append((repository, repo_type, revision))
        return [*reversed(names), "data/test-0.parquet", "README.md", "data/pretrain-0.parquet"]

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", listed)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    for most in (3, 2, 3, 4, 10):
        files, said = split_files(TINY, "train", None, "abc", most)
        assert files == tuple(tmp_path / name for name in spread(names, most))
        assert said == f"revision {tmp_path.name}" + (f", {most} of 10 files" if most < 10 else "")
    assert set(asked) == {("someone/tiny", "dataset", "abc")}


@pytest.mark.parametrize("most", [None, 2])
def test_a_repository_without_the_files_is_named(tmp_path, monkeypatch, most):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: ["README.md"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"someone/tiny has no files train-\*\.parquet: name a folder as data_root"
    ):
        split_files(TINY, "train", None, "abc", most)
