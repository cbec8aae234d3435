import numpy as np
import pytest

from mmaffect.data.arrays import ArrayFile
from mmaffect.data.rows import read_rows
from mmaffect.ops import InputError


def read(toy, kind="dialogue", widths=None):
    recipe = toy.recipe()
    return read_rows(ArrayFile(toy.save() / "toy.npz"), recipe, kind, widths)


def test_columns_follow_the_rows_into_their_sequences(toy):
    plain = read(toy)
    shuffle = np.random.default_rng(1).permutation(toy.rows)
    names = toy.arrays["name"]
    for key, array in toy.arrays.items():
        toy.arrays[key] = array[shuffle]
    mixed = read(toy)
    for before, after in [(plain, mixed)]:
        where = {name: i for i, name in enumerate(before.ids.tolist())}
        back = [where[name] for name in after.ids.tolist()]
        for modality in ("text", "audio"):
            assert after.modalities[modality].values.tolist() == before.modalities[modality].values[back].tolist()
            assert after.modalities[modality].observed.tolist() == before.modalities[modality].observed[back].tolist()
        for name in before.groups:
            assert after.groups[name].tolist() == before.groups[name][back].tolist()
    assert plain.ids.tolist() == names.tolist()
    assert set(plain.groups) == {"talk", "part"}
    assert np.all(np.diff(mixed.layout.code) >= 0)


def test_single_rows_have_no_speaker_and_keep_the_order_of_the_file(toy):
    rows = read(toy, "single")
    assert rows.speaker is None
    assert rows.layout.order.tolist() == list(range(toy.rows))
    assert read(toy).speaker.max() == 1


def test_what_is_there_counts_modalities(toy):
    toy.arrays["sound"] = np.where(np.arange(toy.rows)[:, None] < 9, np.nan, toy.arrays["sound"])
    toy.change(("context = 3", 'nonfinite = "absent"'))
    expected = toy.arrays["has_text"] | (np.arange(toy.rows) >= 9)
    assert read(toy).something.tolist() == expected.tolist()


def test_rows_without_names_are_numbered(toy):
    toy.change(('id = "name"', ""))
    assert read(toy).ids.tolist() == [str(i) for i in range(toy.rows)]
    toy.change(('array = "words"\navailable = "has_text"', 'array = "words"\noffsets = "at"'))
    toy.arrays["at"] = np.arange(toy.rows + 1)
    assert len(read(toy, "single").ids) == toy.rows


def test_a_confounder_is_coded_as_the_recipe_says(toy):
    toy.toml += '[confounder]\narray = "part"\nvalues = [4, 3, 2, 1]\n'
    assert read(toy).confounder.tolist() == (4 - toy.arrays["part"]).tolist()
    toy.toml = toy.toml.replace("[4, 3, 2, 1]", "[4, 3, 2]")
    with pytest.raises(InputError, match=r"toy\.npz: confounder\.array = 'part': 1 is not expected \(8 rows"):
        read(toy)


def test_names_must_differ(toy):
    toy.arrays["name"][3] = "u1"
    with pytest.raises(InputError, match=r"toy\.npz: id = 'name': expected different names, got 'u1' 2 times"):
        read(toy)


def test_without_any_modality_there_is_nothing(toy):
    del toy.arrays["words"], toy.arrays["sound"]
    with pytest.raises(InputError, match=r"modalities: expected at least one of the arrays 'words', 'sound', got none"):
        read(toy, widths={"text": 4, "audio": 2})


@pytest.mark.parametrize(
    ("array", "key"),
    [
        ("name", "id"),
        ("talk", r"groups\.sequence"),
        ("part", r"groups\.fold"),
        ("words", r"modalities\.text\.array"),
        ("has_text", r"modalities\.text\.available"),
        ("person", r"modalities\.audio\.normalise_by"),
    ],
)
def test_a_missing_or_short_array_is_said(toy, array, key):
    whole = toy.arrays.pop(array)
    toy.arrays[f"{array}2"] = whole
    with pytest.raises(InputError, match=rf"toy\.npz: {key} = '{array}': no such array; did you mean '{array}2'"):
        read(toy)
    toy.arrays[array] = whole[:-1]
    with pytest.raises(
        InputError, match=r"expected 29 rows as in id = 'name', got 30|expected 30 rows as in .*, got 29"
    ):
        read(toy)


def test_dialogues_need_a_sequence(toy):
    toy.change(('sequence = "talk"', ""), ('sequence = "dialogue"', 'sequence = "single"'))
    with pytest.raises(
        InputError, match=r"toy\.toml: groups\.sequence: expected a column, since the sequence kind is 'w"
    ):
        read(toy, "window")
