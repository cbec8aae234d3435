import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.data import WordTokenizer, restore_tokenizer
from mmaffect.data.tokenizer import split_words
from mmaffect.ops import InputError

SENTENCES = st.lists(st.text("ab c'\n\u2019.É", max_size=12), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("I DIDNT FEEL LIKE IT", ["i", "didnt", "feel", "like", "it"]),
        ("Didn\u2019t. he's -- 'quoted'?", ["didn't", "he's", "quoted"]),
        ("E\u0301tude \u00c9TUDE", ["\u00e9tude"] * 2),
        ("it's 2-0, 10.5!", ["it's", "2", "0", "10", "5"]),
        (" \t\n", []),
        ("...", []),
        ("", []),
    ],
)
def test_words_are_lower_case_without_punctuation(sentence, words):
    assert split_words(sentence) == words


def test_words_are_ordered_by_frequency_then_alphabet_and_rare_ones_left_out():
    fitted = WordTokenizer.fit(["b a", "B c", "a, b d", "e e"], min_count=2)
    assert fitted.words == ("b", "a", "e")
    assert WordTokenizer.fit(["b a", "B c"], min_count=1).words == ("b", "a", "c")
    assert fitted.vocabulary.size == 8
    assert fitted.encode(["A b, x! c"]) == [[3, 6, 5, 1, 1, 4]]


@given(SENTENCES)
def test_what_is_decoded_is_what_was_said(sentences):
    known = [w for s in sentences for w in split_words(s)]
    tokenizer = WordTokenizer(sorted(set(known)))
    for sentence, ids in zip(sentences, tokenizer.encode(sentences), strict=True):
        assert tokenizer.decode(ids) == ["[START]", *split_words(sentence), "[END]"]
        assert all(0 <= i < tokenizer.vocabulary.size for i in ids)
        assert not set(ids[1:-1]) & set(tokenizer.vocabulary.special)


@given(SENTENCES, st.integers(1, 3), st.integers(3, 6))
def test_it_comes_back_from_json(sentences, min_count, most):
    try:
        tokenizer = WordTokenizer.fit(sentences, min_count=min_count, max_tokens=most)
    except InputError:
        return
    back = restore_tokenizer(json.loads(json.dumps(tokenizer.state_dict())))
    assert back.encode([*sentences, "never heard"]) == tokenizer.encode([*sentences, "never heard"])
    assert back.vocabulary == tokenizer.vocabulary
    assert max(map(len, back.encode(sentences))) <= most


def test_long_sentences_keep_their_start_and_end():
    tokenizer = WordTokenizer(["a", "b"], max_tokens=4)
    assert tokenizer.encode(["a b a b a", "a b", ""]) == [[3, 5, 6, 4], [3, 5, 6, 4], [3, 4]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WordTokenizer(["a", "a"]), "words: expected different strings"),
        (lambda: WordTokenizer([""]), "words: expected different strings"),
        (lambda: WordTokenizer([3]), "words: expected different strings"),
        (lambda: WordTokenizer(["a"], max_tokens=2), r"max_tokens: expected at least 3 \(start, a word, end\), got 2"),
        (lambda: WordTokenizer.fit(["a b"]), "tokenizer: expected words that occur at least 2 times in the training"),
        (lambda: WordTokenizer.fit(["a b"], min_count=0), "min_count: expected a value > 0, got 0"),
        (lambda: WordTokenizer.fit("the film"), "sentences: expected several strings, got one: 'the film'"),
        (lambda: WordTokenizer(["a"]).encode("a"), "sentences: expected several strings, got one: 'a'"),
        (lambda: restore_tokenizer({}), "tokenizer: None is unknown; Known: subwords, words"),
        (
            lambda: restore_tokenizer({"kind": "words"}),
            r"tokenizer: expected a list of words and a limit, got \['kind'\]",
        ),
        (
            lambda: restore_tokenizer({"kind": "words", "words": ["a"], "max_tokens": "4"}),
            "expected a list of words and",
        ),
    ],
)
def test_what_cannot_be_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
