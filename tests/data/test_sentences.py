import json

import numpy as np
import pytest
import torch

from mmaffect.data import DataSpec, load_dataset, load_unlabelled, restore_tokenizer
from mmaffect.data.arrays import ArrayFile
from mmaffect.data.sentences import read_sentences
from mmaffect.ops import InputError
from tests.text_models import tiny_tokenizer

SAID = [
    "A fine film",
    "not a film",
    "I like it",
    "Fine!",
    "a film a film a film",
    "it rains",
    "",
    " ... ",
    "never heard",
]


@pytest.fixture
def talk(toy):
    """The toy data, row by row, with sentences in the place of one modality's vectors."""
    toy.arrays["words"] = np.array([SAID[i % len(SAID)] for i in range(toy.rows)])
    return toy.change(
        ('sequence = "dialogue"', 'sequence = "single"'),
        ('available = "has_text"\nnormalise = "train"', 'available = "has_text"\ntokenizer = "words"\nmin_count = 1'),
        ('sequence = "talk"\nspeaker = "person"\n', ""),
    )  # fmt: skip


def load(toy, **options):
    return load_dataset(toy.recipe(), toy.save(), **options)


def rows_of(toy, part):
    names = toy.arrays["name"].tolist()
    return [names.index(name) for name in part.ids]


def test_words_of_the_training_split_become_ids(talk):
    splits = load(talk)
    tokenizer = splits.tokenizers["text"]
    training = talk.arrays["split"] == "train"
    heard = talk.arrays["words"][training & talk.arrays["has_text"]]
    assert set(tokenizer.words) == {w.strip("!.").lower() for s in heard for w in s.split()} - {""}
    for part in (splits.train, splits.valid, splits.test):
        for i, row in enumerate(rows_of(talk, part)):
            ids = part[i].inputs["text"]
            said = [w.strip("!.").lower() for w in talk.arrays["words"][row].split()]
            said = [w for w in said if w]
            if not talk.arrays["has_text"][row] or not said:
                assert len(ids) == 0
            else:
                told = tokenizer.decode(ids.tolist())
                assert told == ["[START]", *(w if w in tokenizer.words else "[UNKNOWN]" for w in said), "[END]"]
    spec = splits.train.spec
    assert spec.tokens == {"text": tokenizer.vocabulary}
    assert spec.modalities == {"text": tokenizer.vocabulary.size, "audio": 2}
    assert spec.names == ("text", "audio")  # the recipe's order
    nothing = ~talk.arrays["has_text"] | np.isin(talk.arrays["words"], ["", " ... "])
    assert splits.report.missing == {"text": int(nothing.sum()), "audio": 0}
    assert set(splits.normaliser.mean) == {"audio"}


def test_words_of_other_splits_change_nothing(talk):
    before = load(talk)
    elsewhere = talk.arrays["split"] != "train"
    talk.arrays["words"] = np.where(elsewhere, "other words altogether", talk.arrays["words"])
    after = load(talk)
    assert after.tokenizers["text"].words == before.tokenizers["text"].words
    assert after.train.fingerprint == before.train.fingerprint
    assert (after.test.values["text"] == 1).any()  # unknown


def test_rare_words_are_unknown_and_long_sentences_cut(talk):
    talk.change(("min_count = 1", "min_count = 3\nmax_tokens = 4"))
    tokenizer = load(talk).tokenizers["text"]
    assert tokenizer.max_tokens == 4
    training = (talk.arrays["split"] == "train") & talk.arrays["has_text"]
    said = " ".join(talk.arrays["words"][training]).lower().replace("!", "").split()
    assert set(tokenizer.words) == {w for w in said if w != "..." and said.count(w) >= 3}
    assert set(tokenizer.words) < set(said) - {"..."}


def test_a_row_with_nothing_but_an_empty_sentence_makes_no_sample(talk):
    talk.arrays["sound"][:3] = np.nan
    talk.arrays["words"][:3] = ["", "fine", " ?! "]
    talk.arrays["has_text"][:3] = True
    talk.arrays["label"][:3] = 1
    talk.change(("context = 3", 'context = 3\nnonfinite = "absent"'))
    splits = load(talk)
    assert splits.report.dropped_empty == 2
    assert not {"u0", "u2"} & set(splits.train.ids)
    assert splits.train[splits.train.ids.index("u1")].masks["audio"].tolist() == [False]


def test_blank_is_absent_whatever_a_tokenizer_makes_of_it(talk):
    talk.arrays["words"][:4] = ["", "  ", " \t", " a "]
    talk.arrays["has_text"][:4] = True
    talk.save()
    file, recipe = ArrayFile(talk.folder / "toy.npz"), talk.recipe().modalities["text"]
    assert read_sentences(file, "text", recipe, np.arange(talk.rows)).available[:4].tolist() == [False] * 3 + [True]


def test_new_sentences_get_the_ids_of_the_fit(talk):
    splits = load(talk)
    states = json.loads(json.dumps({n: t.state_dict() for n, t in splits.tokenizers.items()}))
    tokenizers = {name: restore_tokenizer(state) for name, state in states.items()}
    np.savez(
        talk.folder / "new.npz",
        name=["p", "q", "r", "s"], words=["a fine zebra", "", "FILM", "zebra"], has_text=[True, True, True, False],
        sound=np.ones((4, 2)), person=["x"] * 4,
    )  # fmt: skip
    args = (talk.recipe(), talk.folder / "new.npz", splits.normaliser, None, None)
    data = load_unlabelled(*args, splits.train.spec, tokenizers)
    assert data.spec == splits.train.spec
    decode = tokenizers["text"].decode
    assert [decode(data[i].inputs["text"].tolist()) for i in range(4)] == [
        ["[START]", "a", "fine", "[UNKNOWN]", "[END]"], [], ["[START]", "film", "[END]"], [],
    ]  # fmt: skip
    np.savez(talk.folder / "new.npz", name=["p"], sound=np.ones((1, 2)), person=["x"])
    batch = load_unlabelled(*args, splits.train.spec, tokenizers).batch()
    assert batch.present.tolist() == [[False, True]]
    assert batch.inputs["text"].dtype == torch.int64
    np.savez(talk.folder / "new.npz", name=["p", "q"], words=["film", ""], has_text=[True, True])
    assert load_unlabelled(*args, splits.train.spec, tokenizers).batch().present.tolist() == [[True, False]]
    with pytest.raises(InputError, match=r"toy\.toml: expected the tokenizers of \('text',\) .*, got those of \(\)"):
        load_unlabelled(*args, splits.train.spec)
    vectors = DataSpec({"text": 4, "audio": 2}, "class", ("a", "b"), "single")
    with pytest.raises(InputError, match=r"expected the tokenizers of \(\) that the system was fitted with, got those"):
        load_unlabelled(*args, vectors, tokenizers)


def test_a_tokenizer_may_lie_in_the_data_folder_or_be_named_instead(talk):
    (talk.folder / "model").mkdir()
    tiny_tokenizer(talk.folder / "model")
    named = load(talk, tokenizer=talk.folder / "model")
    talk.change(('tokenizer = "words"\nmin_count = 1', 'tokenizer = "model"\nmax_tokens = 6'))
    splits = load(talk)
    assert splits.train.spec.modalities["text"] == 15
    ids = {name: splits.train[i].inputs["text"].tolist() for i, name in enumerate(splits.train.ids)}
    row = next(r for r, w in enumerate(talk.arrays["words"]) if w == "Fine!" and f"u{r}" in ids and ids[f"u{r}"])
    assert ids[f"u{row}"] == [2, 6, 1, 3]  # "!" is no token of this one
    assert max(map(len, ids.values())) <= 6
    assert named.train.spec.tokens == splits.train.spec.tokens
    words = load(talk, tokenizer="words")
    assert words.tokenizers["text"].words  # the recipe names a folder, the command line words


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (("", ""), {"sequence": "dialogue"}, r"modalities\.text\.tokenizer: a turn of a dialogue has no time axis"),
        (("", ""), {"sequence": "window"}, r"a turn of a window has no time axis .*; expected sequence = 'single'"),
        (('array = "words"', 'array = "label"'), {}, r"text\.array = 'label': expected strings, since there is a tok"),
        (('"words"\nmin', '"no/folder"\n#'), {}, r"toy\.npz: modalities\.text: tokenizer: .*no/folder is not there"),
        (('tokenizer = "words"\nmin_count = 1', ""), {}, r"numbers, got <U.*; sentences need modalities\.text\."),
        (("min_count = 1", "min_count = 99"), {}, r"toy\.npz: modalities\.text: tokenizer: expected words that"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_said(talk, change, options, message):
    talk.change(change)
    if options:
        talk.change(('fold = ["part"]', 'fold = ["part"]\nsequence = "talk"'))
    with pytest.raises(InputError, match=message):
        load(talk, **options)


def test_a_recipe_without_sentences_takes_no_tokenizer(toy):
    with pytest.raises(
        InputError, match=r"tokenizer: expected a recipe with a modality of sentences, toy\.toml has none"
    ):
        load(toy, tokenizer="words")


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ('normalise = "train"', r"modalities\.text\.normalise: expected no such key beside a tokenizer, got 'train'"),
        ('offsets = "o"', r"modalities\.text\.offsets: expected no such key beside a tokenizer"),
        ("max_tokens = 2", r"modalities\.text\.max_tokens: expected a whole number of at least 3, got 2"),
        (
            'tokenizer = "/abs"',
            r"modalities\.text\.tokenizer: expected a relative path inside the data folder, got '/abs'",
        ),
        ('tokenizer = "../up"', r"modalities\.text\.tokenizer: expected a relative path inside the data folder"),
        (
            'tokenizer = "model"\nmin_count = 1',
            r"modalities\.text\.min_count: expected no such key beside a tokenizer from",
        ),
    ],
)
def test_keys_that_do_not_go_with_a_tokenizer_are_said(talk, new, message):
    talk.change(('tokenizer = "words"\nmin_count = 1', new if "tokenizer" in new else f'tokenizer = "words"\n{new}'))
    with pytest.raises(InputError, match=message):
        talk.recipe()


@pytest.mark.parametrize("key", ["min_count", "max_tokens"])
def test_keys_of_a_tokenizer_need_one(toy, key):
    with pytest.raises(InputError, match=rf"modalities\.text\.{key}: expected no such key without a tokenizer, got 3"):
        toy.change(('array = "words"', f'array = "words"\n{key} = 3')).recipe()
