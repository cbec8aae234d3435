import pytest

from mmaffect.data import load_recipe
from mmaffect.ops import InputError

CLASSES = 'classes = ["sad", "happy", "calm"]'


def test_everything_a_recipe_says_is_read(toy):
    toy.change(
        ('array = "words"', 'array = "words"\nlog = [1, 3]\nlog_offset = 0.5'),
        ("unlabelled = [-1]", 'unlabelled = ["x"]\nvalues = ["s", ["h", "e"], "c"]'),
        ("context = 3", 'context = 3\nclip = 4\nnonfinite = "absent"'),
    )
    toy.toml += '[confounder]\narray = "part"\nvalues = [1, 2]\n'
    recipe = toy.recipe()
    text, audio = recipe.modalities.values()
    assert list(recipe.modalities) == ["text", "audio"]
    assert (text.array, text.available, text.normalise, text.log, text.log_offset) == (
        "words",
        "has_text",
        "train",
        (1, 3),
        0.5,
    )
    assert (audio.normalise, audio.normalise_by, audio.log) == ("group", "person", False)
    assert recipe.target.values == (("s",), ("h", "e"), ("c",))
    assert recipe.target.unlabelled == ("x",)
    assert (recipe.sequence_by, recipe.speaker, recipe.fold) == ("talk", "person", ("part",))
    assert (recipe.context, recipe.clip, recipe.nonfinite) == (3, 4.0, "absent")
    assert recipe.confounder.values == (1, 2)
    assert recipe.split.names == ("train", "valid", "test")
    assert (recipe.source, recipe.text) == ("toy.toml", toy.toml)


def test_a_split_may_be_dealt_out(toy):
    toy.change(('array = "split"', 'by = "part"\nshares = [0.6, 0.2, 0.2]\nseed = 3'))
    split = toy.recipe().split
    assert (split.array, split.by, split.shares, split.seed) == (None, "part", (0.6, 0.2, 0.2), 3)


def test_a_split_may_go_by_words(toy):
    toy.change(('array = "split"', 'method = "ood"\ntext = "words"\nmost = 0.2\nmin_count = 3\nby = "part"'))
    split = toy.recipe().split
    assert (split.array, split.method, split.text, split.by) == (None, "ood", "words", "part")
    assert (split.most, split.min_count, split.smoothing, split.shares) == (0.2, 3, 1.0, (0.7, 0.15, 0.15))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "toy"', "", r"toy\.toml: name: expected a string, got nothing"),
        ('name = "toy"', "name = 3", "name: expected a string, got 3"),
        ('id = "name"', 'idd = "name"', r"idd: unknown key; did you mean 'id'"),
        ('file = "toy.npz"', 'file = "../toy.npz"', "file: expected a relative path inside the data folder"),
        ('file = "toy.npz"', 'file = "/toy.npz"', "file: expected a relative path inside the data folder"),
        ('file = "toy.npz"', 'file = "C:\\\\toy.npz"', "file: expected a relative path inside the data folder"),
        ('"dialogue"', '"dialog"', r"sequence: expected one of dialogue, window, single \(did you mean 'dialogue'\?\)"),
        ("context = 3", "context = 0", "context: expected a whole number of at least 1, got 0"),
        ("context = 3", 'nonfinite = "mean"', "nonfinite: expected one of raise, zero, absent, got 'mean'"),
        ("context = 3", "clip = 0", "clip: expected a number above 0, got 0"),
        ('array = "words"', "", r"modalities\.text\.array: expected a string, got nothing"),
        ('array = "words"', 'aray = "words"', r"modalities\.text\.aray: unknown key; did you mean 'array'"),
        ('array = "words"', 'array = "words"\nlog = [3, 1]', r"modalities\.text\.log: expected true, false or a range"),
        ('array = "words"', 'array = "words"\nlog = 1', r"modalities\.text\.log: expected true, false or a range"),
        ('array = "words"', 'array = "words"\noffsets = "o"\nlengths = "l"', "either offsets or lengths, not both"),
        (
            "[modalities.text]",
            '[modalities."a.b"]',
            r"modalities: expected names of letters, digits, _ and -, got 'a\.b'",
        ),
        ('"group"', '"group2"', r"modalities\.audio\.normalise: expected one of none, train, group"),
        ('normalise_by = "person"', "", r"modalities\.audio\.normalise_by: expected a column of groups with"),
        (
            'normalise = "train"',
            'normalise_by = "person"',
            r"modalities\.text\.normalise_by: expected a column of groups",
        ),
        (
            'kind = "class"',
            'kind = "classes"',
            r"target\.kind: expected one of class, multilabel, score \(did you mean",
        ),
        (CLASSES, 'classes = ["sad"]', r"target\.classes: expected a list of at least 2 names, got \['sad'\]"),
        (
            CLASSES,
            CLASSES + "\nvalues = [1, 2]",
            r"target\.values: expected only for kind = 'class', one entry a class \(3\)",
        ),
        (CLASSES, CLASSES + "\nvalues = [1, 2, [2]]", r"target\.values: expected different strings, numbers or lists"),
        (
            CLASSES,
            CLASSES + "\nrange = [0, 1]",
            r"target\.range: expected only for kind = 'score', \[least, greatest\]",
        ),
        (
            "unlabelled = [-1]",
            "unlabelled = -1",
            r"target\.unlabelled: expected a list of strings, numbers or booleans",
        ),
        ('sequence = "talk"', "", r"groups\.sequence: expected a column, since sequence = 'dialogue', got nothing"),
        ('fold = ["part"]', 'fold = "part"', r"groups\.fold: expected a list of different strings, got 'part'"),
        ('array = "split"', "", r"split\.array: expected either split\.array \(a column\), split\.by \("),
        ('array = "split"', 'array = "split"\nby = "part"', r"split\.array: expected either split\.array"),
        ('array = "split"', 'array = "split"\nseed = 1', r"split\.seed: expected no such key beside split\.array"),
        ('array = "split"', 'by = "part"\nvalid = "dev"', r"split\.valid: expected no such key beside split\.by"),
        (
            'array = "split"',
            'array = "split"\nvalid = "train"',
            r"split\.train: expected a value of the split's column",
        ),
        ('array = "split"', 'method = "ood"', r"split\.text: expected a string, got nothing"),
        (
            'array = "split"',
            'method = "odd"\ntext = "words"',
            r"split\.method: expected one of ood, iid \(did you mean",
        ),
        (
            'array = "split"',
            'array = "split"\nmethod = "ood"\ntext = "words"',
            r"split\.array: expected no such key beside split\.method",
        ),
        ('array = "split"', 'by = "part"\nmost = 0.1', r"split\.most: expected no such key beside split\.by"),
        (
            'array = "split"',
            'method = "ood"\ntext = "words"\nmost = 0',
            r"split\.most: expected a number above 0, got 0",
        ),
        ('array = "split"', 'by = "part"\nshares = [0.5, 0.5, 0.5]', r"split\.shares: expected three positive shares"),
        ('array = "split"', 'by = "part"\nshares = [0.5, 0.5]', r"split\.shares: expected a list of 3 numbers"),
        (
            "[split]",
            '[confounder]\narray = "part"\nvalues = [1]\n[split]',
            r"confounder\.values: expected at least two",
        ),
    ],
)
def test_what_is_wrong_is_said(toy, old, new, message):
    with pytest.raises(InputError, match=message):
        toy.change((old, new)).recipe()


def test_no_modality_is_refused(toy):
    toy.toml = toy.toml[: toy.toml.index("[modalities.text]")] + toy.toml[toy.toml.index("[target]") :]
    with pytest.raises(InputError, match=r"modalities: expected at least one table \[modalities\.NAME\], got nothing"):
        toy.recipe()


def test_a_file_that_is_no_recipe_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: cannot be read: No such file"):
        load_recipe(tmp_path / "none.toml")
    path = tmp_path / "broken.toml"
    path.write_text("name = ", encoding="utf-8")
    with pytest.raises(InputError, match=r"broken\.toml: is not TOML: "):
        load_recipe(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"broken\.toml: is not TOML: "):
        load_recipe(path)
