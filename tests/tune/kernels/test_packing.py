"""Packed rows, masked words and next tokens, against slow oracles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.tune.kernels.packing import IGNORED, Text, lay_out, mask_words, next_tokens, pack


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60))
def test_each_text_is_in_one_row_and_in_the_one_that_it_fills_best(lengths):
    rows = pack(lengths, 30)
    assert sorted(text for row in rows for text in row) == list(range(len(lengths)))
    assert all(sum(lengths[text] for text in row) <= 30 for row in rows)
    slow: list[int] = []  # the oracle: the room of each row
    for length in lengths:
        fitting = [room for room in slow if room >= length]
        if fitting:
            slow.remove(min(fitting))
        slow.append((min(fitting) if fitting else 30) - length)
    assert sorted(slow) == sorted(30 - sum(lengths[text] for text in row) for row in rows)


def test_a_row_holds_its_texts_one_after_the_other():
    first, second = np.array([5, 6, 7]), np.array([8, 9])
    rows = lay_out([[(first, first), (second, second * 0 + IGNORED)], [(second, second)]], padding=1)
    assert rows.ids.tolist() == [[5, 6, 7, 8, 9], [8, 9, 1, 1, 1]]
    assert rows.labels.tolist() == [[5, 6, 7, IGNORED, IGNORED], [8, 9, IGNORED, IGNORED, IGNORED]]
    assert rows.positions.tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 0, 0]]
    assert rows.segments.tolist() == [[1, 1, 1, 2, 2], [1, 1, 0, 0, 0]]


@pytest.mark.parametrize("causal", [False, True])
def test_a_token_sees_its_own_text_alone(causal):
    text = np.array([5, 6])
    sees = lay_out([[(text, text), (text, text)]], padding=0).sees(causal)[0]
    for one in range(4):
        for other in range(4):
            assert sees[one, other] == (one // 2 == other // 2 and (other <= one or not causal))


def text_of(words, seed=0):
    """A text of as many tokens as ``words`` names, between two special tokens."""
    rng = np.random.default_rng(seed)
    return Text(np.r_[2, rng.integers(10, 99, len(words)), 3], np.r_[-1, words, -1])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40), st.floats(0.05, 0.9), st.integers(0, 9))
def test_words_are_masked_whole_and_never_special_tokens(pieces, share, seed):
    text = text_of(np.repeat(np.arange(len(pieces)), pieces))
    ids, labels = mask_words(text, share, 4, np.arange(10, 99), np.random.default_rng(seed))
    predicted = labels != IGNORED
    assert predicted[[0, -1]].sum() == 0
    assert np.array_equal(labels[predicted], text.ids[predicted])
    assert np.array_equal(ids[~predicted], text.ids[~predicted])
    masked = [word for word in range(len(pieces)) if predicted[text.words == word].any()]
    assert all(predicted[text.words == word].all() for word in masked)
    assert len(masked) == max(1, round(share * len(pieces)))


def test_of_the_masked_tokens_eight_in_ten_are_the_mask_and_one_in_ten_stays():
    text = text_of(np.arange(20_000))
    ids, labels = mask_words(text, 0.5, 4, np.arange(1000, 2000), np.random.default_rng(0))
    chosen = labels != IGNORED
    shares = [np.mean(part[chosen]) for part in (ids == 4, ids >= 1000, ids == text.ids)]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.02)


def test_a_text_without_words_predicts_nothing():
    text = Text(np.array([2, 3]), np.array([-1, -1]))
    for ids, labels in (mask_words(text, 0.5, 4, np.arange(9), np.random.default_rng(0)), next_tokens(text)):
        assert ids.tolist() == [2, 3]
        assert labels.tolist() == [IGNORED, IGNORED]


def test_the_next_token_of_a_word_is_predicted_and_no_special_one():
    ids, labels = next_tokens(Text(np.array([2, 11, 12, 13, 3]), np.array([-1, 0, 0, 1, -1])))
    assert ids.tolist() == [2, 11, 12, 13, 3]
    assert labels.tolist() == [11, 12, 13, IGNORED, IGNORED]
