import ast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wolfe import fingerprint
from wolfe.experiments.store import Store
from wolfe.files import atomic_path, checked, read_json, sha256, write_json
from wolfe.fingerprint import code_fingerprint
from wolfe.metrics import distortion, eight_bit
from wolfe.seeding import numpy_generator, seed_for, torch_generator


def test_atomic_files_are_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"


def test_atomic_directories_replace_what_was_there(tmp_path):
    for content in ("old", "new"):
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert [item.name for item in (tmp_path / "folder").iterdir()] == ["new"]
    assert len(list(tmp_path.iterdir())) == 1


def test_checksums_see_contents_and_names(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = sha256(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert sha256(tmp_path / "a") != first
    assert checked(tmp_path / "a", sha256(tmp_path / "a")) == tmp_path / "a"
    with pytest.raises(ValueError, match="damaged"):
        checked(tmp_path / "a", first)
    with pytest.raises(FileNotFoundError, match="run the stage"):
        checked(tmp_path / "b", first)


def test_json_names_the_file_that_does_not_parse(tmp_path):
    write_json(tmp_path / "good.json", {"a": [1, 2]})
    assert read_json(tmp_path / "good.json") == {"a": [1, 2]}
    (tmp_path / "bad.json").write_text('{"a":')
    with pytest.raises(ValueError, match=r"bad\.json is not valid JSON"):
        read_json(tmp_path / "bad.json")


def test_draws_belong_to_names_not_to_order():
    assert seed_for(0, "a", "b") != seed_for(0, "ab")
    assert seed_for(0, "a") != seed_for(1, "a")
    assert torch.equal(
        torch.rand(3, generator=torch_generator(1, "x")), torch.rand(3, generator=torch_generator(1, "x"))
    )
    assert numpy_generator(1, "x").random() == numpy_generator(1, "x").random()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in the place of the real one, with a function that rewrites a module of it."""
    monkeypatch.setattr(fingerprint, "_ROOT", tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        fingerprint._tree.cache_clear()
        fingerprint._bare_source.cache_clear()

    write("stage", '"""Stage."""\nfrom wolfe import heart\n\n\ndef run():\n    """Runs."""\n    return heart.BEAT\n')
    write("heart", "BEAT = 1\n")
    write("other", "X = 1\n")
    yield write
    fingerprint._tree.cache_clear()
    fingerprint._bare_source.cache_clear()


def test_fingerprint_ignores_comments_and_sees_constants(package):
    first = code_fingerprint("wolfe.stage")
    package("stage", '"""Another."""\nfrom wolfe import heart  # why\n\ndef run():\n    return heart.BEAT\n')
    assert code_fingerprint("wolfe.stage") == first
    package("other", "X = 2\n")
    assert code_fingerprint("wolfe.stage") == first
    package("heart", "BEAT = 2\n")
    assert code_fingerprint("wolfe.stage") != first


def test_fingerprint_of_an_attack_depends_on_itself_and_the_base_alone():
    names = fingerprint._closure(("wolfe.attacks.jma",))
    assert {"wolfe.attacks.base", "wolfe.linear.dual", "wolfe.region"} <= names
    assert "wolfe.attacks.lots" not in names
    with pytest.raises(ValueError, match=r"no module 'wolfe\.nothing'"):
        code_fingerprint("wolfe.nothing")


def test_fingerprint_parses_what_it_reads():
    assert isinstance(fingerprint._tree("wolfe.files"), ast.Module)


def test_store_makes_once_and_mends_damage(tmp_path):
    store, made = Store(tmp_path), []

    def make(folder):
        made.append(1)
        (folder / "result").write_text("42")

    key = store.key(parameter=1)
    piece, new = store.piece(key, "shard", make)
    assert new
    assert (piece / "result").read_text() == "42"
    assert store.piece(key, "shard", make) == (piece, False)
    (piece / "result").write_text("43")
    assert store.piece(key, "shard", make)[1]
    assert (piece / "result").read_text() == "42"
    assert len(made) == 2
    stale = piece.parent / ".0123.shard"
    stale.mkdir()
    (piece / "result").unlink()
    store.piece(key, "shard", make)
    assert not stale.exists()


def test_store_makes_again_what_its_list_does_not_tell_of(tmp_path):
    def make(folder):
        (folder / "result").write_text("42")
        (folder / "trace").write_text("4")

    def changed():
        (piece / "trace").write_text("5")
        sums = read_json(piece / "manifest.json")
        write_json(piece / "manifest.json", {name: sums[name] for name in sums if name != "trace"})

    store, key = Store(tmp_path), Store.key(a=1)
    piece, _ = store.piece(key, "shard", make)
    empty, more = (lambda: write_json(piece / "manifest.json", {})), (lambda: (piece / "more").touch())
    for damage in (changed, empty, more, (piece / "manifest.json").unlink):
        damage()
        assert store.piece(key, "shard", make) == (piece, True)
        assert (piece / "trace").read_text() == "4"
        assert store.piece(key, "shard", make) == (piece, False)
    (piece / ".DS_Store").touch()
    assert store.piece(key, "shard", make) == (piece, False)


def test_store_keeps_nothing_of_a_failed_piece(tmp_path):
    def fail(folder):
        (folder / "half").touch()
        raise OSError("disk full")

    store = Store(tmp_path)
    with pytest.raises(OSError, match="disk full"):
        store.piece(store.key(a=1), "shard", fail)
    assert not any(path.name == "half" for path in tmp_path.rglob("*"))


def test_store_keys_depend_on_values_not_on_order():
    assert Store.key(a=1, b=2) == Store.key(b=2, a=1)
    assert Store.key(a=1) != Store.key(a=2)


def test_distortion_by_hand():
    before, after = np.zeros((1, 12, 12), np.float32), np.zeros((1, 12, 12), np.float32)
    after[0, 0, 0], after[0, 5, 5] = 0.3, 0.4
    measured = distortion(before, after)
    assert measured["mse"] == pytest.approx(0.25 / 144)
    assert measured["rmse"] == pytest.approx(0.5 / 12)
    assert measured["psnr"] == pytest.approx(-10 * np.log10(0.25 / 144))
    assert measured["l0"] == 2
    assert measured["l1"] == pytest.approx(0.7)
    assert measured["l2"] == pytest.approx(0.5)
    assert measured["linf"] == pytest.approx(0.4)
    assert measured["ssim"] < 1
    with pytest.raises(ValueError, match="differ in shape"):
        distortion(before, after[:, :6])


@pytest.mark.parametrize("size", [3, 8, 16])
def test_equal_images_are_perfectly_similar(size):
    image = np.random.default_rng(0).random((3, size, size)).astype(np.float32)
    measured = distortion(image, image)
    assert measured["ssim"] == pytest.approx(1)
    assert measured["psnr"] == np.inf


@given(st.floats(0, 1, width=32))
def test_eight_bits_are_the_nearest_grey_level(value):
    rounded = eight_bit(np.array([value], np.float32))[0]
    assert abs(rounded - value) <= 0.5 / 255 + 1e-6
    assert np.rint(rounded * 255) / 255 == pytest.approx(rounded, abs=1e-6)
