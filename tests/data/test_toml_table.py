import pytest

from mmaffect.data.toml_table import Table, near
from mmaffect.ops import InputError


def table(**values):
    return Table("r.toml", "part", values, ("key", "other"))


def test_what_is_there_is_read():
    assert table(key="a").text("key") == "a"
    assert table().text_or_none("key") is None
    assert table(key="b").choice("key", ("a", "b")) == "b"
    assert table().choice("key", ("a", "b"), "a") == "a"
    assert table(key=3).integer("key", 1, 1) == 3
    assert table(key=3).positive("key", 1.0) == 3.0
    assert table(key=["a", "b"]).texts("key") == ("a", "b")
    assert table(key=[1, 2.5]).numbers("key", 2) == (1.0, 2.5)
    assert table(key=["a", 1, True]).scalars("key") == ("a", 1, True)
    assert table(key="a/b.npz").inside("key", "here") == "a/b.npz"


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (lambda t: t.text("key"), 3, r"r\.toml: part\.key: expected a string, got 3"),
        (lambda t: t.text("key"), "", "expected a string, got ''"),
        (lambda t: t.inside("key", "here"), "/a", "expected a relative path inside here, got '/a'"),
        (lambda t: t.inside("key", "here"), "a/../../b", "expected a relative path inside here"),
        (lambda t: t.inside("key", "here"), "c:a", "expected a relative path inside here"),
        (lambda t: t.choice("key", ("train", "none")), "trian", r"one of train, none \(did you mean 'train'\?\), got"),
        (lambda t: t.integer("key", 1, 1), 0, "expected a whole number of at least 1, got 0"),
        (lambda t: t.integer("key", 1, 0), True, "expected a whole number of at least 0, got True"),
        (lambda t: t.integer("key", 1, 0), 1.5, "expected a whole number of at least 0, got 1.5"),
        (lambda t: t.positive("key", 1.0), float("nan"), "expected a number above 0, got nan"),
        (lambda t: t.positive("key", 1.0), float("inf"), "expected a number above 0, got inf"),
        (lambda t: t.texts("key"), ["a", "a"], "expected a list of different strings, got"),
        (lambda t: t.texts("key"), "a", "expected a list of different strings, got 'a'"),
        (lambda t: t.numbers("key", 2), [1], r"expected a list of 2 numbers, got \[1\]"),
        (lambda t: t.numbers("key", 1), [True], "expected a list of 1 numbers"),
        (lambda t: t.scalars("key"), [[1]], "expected a list of strings, numbers or booleans"),
    ],
)
def test_what_is_wrong_is_said(read, value, message):
    with pytest.raises(InputError, match=message):
        read(table(key=value))


def test_a_missing_key_is_said():
    with pytest.raises(InputError, match=r"r\.toml: part\.key: expected a string, got nothing \(the key is missing\)"):
        table().text("key")


def test_an_unknown_key_is_refused_with_its_neighbours():
    with pytest.raises(InputError, match=r"r\.toml: part\.kay: unknown key; did you mean 'key'\? known: key, other"):
        table(kay=1)
    with pytest.raises(InputError, match=r"r\.toml: kay: unknown key"):
        Table("r.toml", "", {"kay": 1}, ("key",))
    with pytest.raises(InputError, match=r"r\.toml: part: expected a table, got 3"):
        Table("r.toml", "part", 3, ("key",))


def test_long_lists_of_names_are_cut():
    assert near("x", range(20)).endswith("10, 11 and 8 more")
    assert near("x", []) == "known: nothing"
