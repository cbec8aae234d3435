import json

import pytest

from mmaffect.data import Vocabulary
from mmaffect.data.vocabulary import as_vocabulary
from mmaffect.ops import InputError


def test_unknown_and_mask_are_special_but_go_missing_as_words_do():
    bert = Vocabulary(30522, unknown=100, mask=103, special=(0, 100, 101, 102, 103))
    assert bert.protected == (0, 101, 102)


def test_a_vocabulary_is_what_json_makes_of_it():
    one = Vocabulary(9, unknown=1, mask=2, special=(0, 1, 2, 3, 4))
    back = as_vocabulary("text", json.loads(json.dumps(one)))
    assert back == one
    assert isinstance(back, Vocabulary)
    assert as_vocabulary("text", one) == one


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([9, 1, 2], r"tokens\['text'\]: expected size, unknown, mask and a list of special ids, got \[9, 1, 2\]"),
        ([9, 1, 2, 3], "expected size, unknown, mask and a list of special ids"),
        ([9, "a", 2, [0]], "expected size, unknown, mask and a list of special ids"),
        ([9, 1, 2, ["a"]], "expected size, unknown, mask and a list of special ids"),
        ([9, 9, 2, [0]], r"tokens\['text'\]: expected ids of 0 … 8, got 9"),
        ([9, 1, -1, [0]], "expected ids of 0 … 8, got -1"),
        ([9, 1, 2, [0, 12]], "expected ids of 0 … 8, got 12"),
    ],
)
def test_what_is_no_vocabulary_is_said(value, message):
    with pytest.raises(InputError, match=message):
        as_vocabulary("text", value)
