"""Words that a linear probe recovers from vectors."""

import numpy as np
import pytest

from recsys_spark.privacy.kernels.inversion import word_recovery, words_of


def texts_of(rng, number):
    words = [f"w{chr(97 + word % 26)}{chr(97 + word // 26)}" for word in range(60)]
    return [" ".join(rng.choice(words, 5, replace=False)) for _ in range(number)]


def test_vectors_that_are_sums_of_words_give_all_of_them_away_and_noise_none():
    rng = np.random.default_rng(0)
    texts = texts_of(rng, 400)
    codes = {word: rng.normal(size=80) for word in sorted({word for text in texts for word in text.split()})}
    sums = np.array([sum(codes[word] for word in text.split()) for text in texts])
    found = word_recovery(texts, sums)
    assert found.share > 0.95
    assert (found.trained, found.texts, found.words) == (280, 120, 60)
    noise = word_recovery(texts, rng.normal(size=sums.shape))
    assert noise.by_frequency == found.by_frequency < 0.2
    assert abs(noise.share - noise.by_frequency) < 0.06


@pytest.mark.parametrize("texts", [[], ["a word"], ["1 2"] * 10, ["one word alone"] * 3])
def test_too_few_texts_say_nothing(texts):
    assert word_recovery(texts, np.ones((len(texts), 3))) is None


def test_equal_vectors_recover_what_frequency_does():
    texts = texts_of(np.random.default_rng(1), 100)
    found = word_recovery(texts, np.ones((100, 4)))
    assert found.share == pytest.approx(found.by_frequency)


def test_words_are_runs_of_letters_and_chinese_characters():
    assert words_of("A Red-pot, 3 pots; 红茶壶x") == {"red", "pot", "pots", "红", "茶", "壶"}
