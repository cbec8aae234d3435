import builtins
import json

import pytest

from mmaffect.data import SubwordTokenizer, Vocabulary, restore_tokenizer
from mmaffect.ops import InputError
from tests.text_models import minilm, tiny_tokenizer


def test_a_folder_gives_the_ids_of_its_words(tmp_path):
    tokenizer = SubwordTokenizer.from_folder(tiny_tokenizer(tmp_path))
    assert tokenizer.vocabulary == Vocabulary(15, unknown=1, mask=4, special=(0, 1, 2, 3, 4))
    assert tokenizer.vocabulary.protected == (0, 2, 3)
    assert tokenizer.encode(["I like FILMS", "unfine zebra", ""]) == [[2, 11, 12, 7, 10, 3], [2, 8, 9, 1, 3], [2, 3]]
    assert tokenizer.decode([2, 8, 9, 1, 3]) == ["[CLS]", "un", "##fine", "[UNK]", "[SEP]"]


@pytest.mark.parametrize(("most", "kept"), [(None, 8), (5, 5), (3, 3)])
def test_long_sentences_keep_their_start_and_end(tmp_path, most, kept):
    tokenizer = SubwordTokenizer.from_folder(tiny_tokenizer(tmp_path), max_tokens=most)
    (ids,) = tokenizer.encode(["a film " * 10])
    assert (len(ids), ids[0], ids[-1]) == (kept, 2, 3)


def test_its_state_needs_no_folder_any_more(tmp_path):
    tokenizer = SubwordTokenizer.from_folder(tiny_tokenizer(tmp_path), max_tokens=5)
    state = json.loads(json.dumps(tokenizer.state_dict()))
    for file in tmp_path.iterdir():
        file.unlink()
    back = restore_tokenizer(state)
    said = ["I like fine films a lot", "", "un"]
    assert back.encode(said) == tokenizer.encode(said)
    assert back.vocabulary == tokenizer.vocabulary
    assert back.state_dict() == tokenizer.state_dict()


def test_a_real_tokenizer_reads_as_transformers_does():
    folder = minilm()
    from transformers import AutoTokenizer

    peer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    said = ["BUT FOR THIS ONE I JUST DIDNT FEEL LIKE IT", "naïve façades, 10.5 %!", "", "word " * 600]
    tokenizer = SubwordTokenizer.from_folder(folder, max_tokens=50)
    assert tokenizer.encode(said) == peer(said, truncation=True, max_length=50)["input_ids"]
    assert tokenizer.vocabulary == Vocabulary(30522, unknown=100, mask=103, special=(0, 100, 101, 102, 103))
    assert len(SubwordTokenizer.from_folder(folder).encode(said)[3]) == 512


def test_what_is_no_tokenizer_is_said(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match="no/where is not there; expected a folder with a Hugging Face tokenizer"):
        SubwordTokenizer.from_folder("no/where")
    with pytest.raises(InputError, match="cannot be read as a Hugging Face tokenizer"):
        SubwordTokenizer.from_folder(tmp_path)
    with pytest.raises(InputError, match=r"tokenizer: is not the content of a tokenizer\.json"):
        SubwordTokenizer("{}", Vocabulary(5, 1, 2, (0, 1, 2)))
    with pytest.raises(InputError, match="expected a tokenizer, its ids and a limit, got"):
        restore_tokenizer({"kind": "subwords"})
    folder = tiny_tokenizer(tmp_path)
    with pytest.raises(InputError, match="max_tokens: expected more than the 2 special ones, got 2"):
        SubwordTokenizer.from_folder(folder, max_tokens=2)
    with pytest.raises(InputError, match="sentences: expected several strings, got one: 'a fine film'"):
        SubwordTokenizer.from_folder(folder).encode("a fine film")


def test_without_the_extra_it_is_said_which(tmp_path, monkeypatch):
    usual = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] in ("transformers", "tokenizers"):
            raise ImportError(name)
        return usual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"transformers cannot be imported; expected the extra 'text' \(pip install"):
        SubwordTokenizer.from_folder(tmp_path)
    with pytest.raises(InputError, match=r"tokenizers cannot be imported; expected the extra 'text' \(pip install"):
        SubwordTokenizer("{}", Vocabulary(5, 1, 2, (0, 1, 2)))
