"""Parts of a run: every shard is in exactly one of them."""

from itertools import chain

import pytest

from wolfe.experiments.part import WHOLE, Part


@pytest.mark.parametrize(("items", "parts"), [(8, 2), (7, 3), (2, 5), (0, 2), (1, 1)])
def test_parts_hold_every_item_once_and_in_order(items, parts):
    found = [list(Part(number, parts).positions(items)) for number in range(1, parts + 1)]
    assert list(chain.from_iterable(found)) == list(range(items))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert list(WHOLE.positions(items)) == list(range(items))


def test_a_part_is_read_from_the_command_line():
    assert Part.read("2/4") == Part(2, 4)


@pytest.mark.parametrize("text", ["2", "2/", "/4", "a/b", "1.5/2", "-1/2", "2/4/8", "²/4", ""])
def test_what_names_no_part_is_refused(text):
    with pytest.raises(ValueError, match="a part is given as NUMBER/PARTS, for example 2/4, got"):
        Part.read(text)


@pytest.mark.parametrize(("number", "parts"), [(0, 2), (3, 2)])
def test_a_part_that_there_is_not_is_refused(number, parts):
    with pytest.raises(ValueError, match=f"there is no part {number} of {parts}"):
        Part(number, parts)
