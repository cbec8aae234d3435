import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.data.layout import cut_samples, lay_out, number_speakers

NAMES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=30)


def blocks(sequence):
    """Sequences and their rows, by a loop."""
    rows = {}
    for row, name in enumerate(sequence):
        rows.setdefault(name, []).append(row)
    return rows


@given(NAMES)
def test_rows_of_a_sequence_form_a_block_in_their_order(rows):
    sequence = np.array([r[0] for r in rows])
    layout, expected = lay_out(sequence), blocks(sequence.tolist())
    assert layout.order.tolist() == [row for block in expected.values() for row in block]
    assert layout.names.tolist() == list(expected)
    for (start, stop), block in zip(layout.bounds, expected.values(), strict=True):
        assert layout.order[start:stop].tolist() == block
    assert layout.code.tolist() == [i for i, block in enumerate(expected.values()) for _ in block]


@given(NAMES)
def test_speakers_are_numbered_by_first_appearance_within_the_sequence(rows):
    layout = lay_out(np.array([r[0] for r in rows]))
    speaker = np.array([f"s{r[1]}" for r in rows])[layout.order]
    expected = []
    for start, stop in layout.bounds:
        seen = {}
        expected += [seen.setdefault(who, len(seen)) for who in speaker[start:stop]]
    assert number_speakers(layout, speaker).tolist() == expected


@given(NAMES, st.integers(1, 5))
def test_windows_hold_the_last_rows_of_their_own_sequence(rows, context):
    layout = lay_out(np.array([r[0] for r in rows]))
    labelled = torch.tensor([r[2] for r in rows])[layout.order]
    something = torch.tensor([r[3] for r in rows])[layout.order]
    cut = cut_samples(layout, "window", context, labelled, something)
    expected, empty = [], 0
    for start, stop in layout.bounds:
        for row in range(start, stop):
            first = max(start, row - context + 1)
            if labelled[row]:
                if something[first : row + 1].any():
                    expected.append([first, row + 1])
                else:
                    empty += 1
    assert cut.spans.tolist() == expected
    assert cut.row.tolist() == [stop - 1 for _, stop in expected]
    assert cut.unlabelled == int((~labelled).sum())
    assert cut.empty == empty


def test_dialogues_are_kept_if_any_turn_is_labelled_and_any_is_there():
    layout = lay_out(np.array(["a", "a", "b", "b", "c", "c"]))
    labelled = torch.tensor([True, False, False, False, True, True])
    something = torch.tensor([False, True, True, True, False, False])
    cut = cut_samples(layout, "dialogue", 8, labelled, something)
    assert cut.spans.tolist() == [[0, 2]]
    assert (cut.row.tolist(), cut.unlabelled, cut.empty) == ([0], 1, 1)


def test_single_rows_are_kept_if_labelled_and_there():
    layout = lay_out(np.arange(4))
    cut = cut_samples(
        layout, "single", 8, torch.tensor([True, True, False, True]), torch.tensor([True, False, True, True])
    )
    assert cut.spans.tolist() == [[0, 1], [3, 4]]
    assert (cut.row.tolist(), cut.unlabelled, cut.empty) == ([0, 3], 1, 1)
