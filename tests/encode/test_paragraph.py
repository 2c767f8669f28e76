"""Every network of the paragraph vectors equals its equations, and its step is the gradient."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from literal_paragraph import Setting, slope

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.encode import TextEncoder
from tokenspace.encode._paragraph import Weights, read_units
from tokenspace.encode.binary_pv import BinaryPV
from tokenspace.encode.paragraph import ParagraphEncoder
from tokenspace.encode.pv_dbow import PVDBOW
from tokenspace.encode.pv_dm import PVDM
from tokenspace.errors import FormatError, InputError, NotConverged
from tokenspace.metrics import cosine
from tokenspace.runner import load_input

NETWORKS = {
    "dbow": Setting,
    "dbow, 8 noise words": lambda **more: Setting(negatives=8, **more),
    "dbow with skip-gram": lambda **more: Setting(skip=6, **more),
    "dm, sum": lambda **more: Setting(join="sum", window=4, **more),
    "dm, mean": lambda **more: Setting(join="mean", window=4, **more),
    "dm, mean, 9 noise words": lambda **more: Setting(join="mean", window=2, negatives=9, **more),
    "dm, concat": lambda **more: Setting(join="concat", window=2, **more),
    "binary dbow": lambda **more: Setting(layer="bits", dim=16, units=16, **more),
    "binary dm": lambda **more: Setting(
        layer="bits", join="sum", dim=16, units=16, window=3, **more
    ),
    "real-binary dbow": lambda **more: Setting(layer="mapped", units=24, **more),
    "real-binary dm": lambda **more: Setting(
        layer="mapped", join="sum", units=24, window=3, **more
    ),
}
networks = pytest.mark.parametrize("network", NETWORKS)


@networks
def test_training_equals_the_equations(network: str) -> None:
    setting = NETWORKS[network]()
    found, _, _ = setting.run()
    expected = setting.literal()
    for name, matrix in expected.items():
        np.testing.assert_allclose(found[name], matrix, atol=5e-6, err_msg=name)
    moved = {n for n in expected if np.abs(expected[n] - setting.matrices[n]).max() > 1e-3}
    assert {"documents", "outputs"} <= moved
    assert ("inputs" in moved) == (setting.join != "alone" or setting.skip > 0)
    assert ("map" in moved) == (setting.layer == "mapped")


@networks
def test_inference_equals_the_equations_and_leaves_the_words_alone(network: str) -> None:
    setting = NETWORKS[network]()
    before = {name: matrix.copy() for name, matrix in setting.matrices.items()}
    rows = setting.infer(3)
    for document in (0, 1, 3):
        expected = setting.literal_infer(document, 3)
        np.testing.assert_allclose(rows[document], expected, atol=5e-6)
    assert not rows[2].any()  # it has no word
    for name, matrix in before.items():
        np.testing.assert_array_equal(setting.matrices[name], matrix)


@networks
def test_a_step_is_the_gradient_of_the_loss(network: str) -> None:
    setting = NETWORKS[network](lengths=(5,), lr=1e-4, keep=1.0)
    if setting.skip:
        setting.skip = 0  # one step only: skip-gram's rows are compared above
        setting.shape = setting.shape._replace(skip=0)
    if setting.join != "alone":
        setting.lengths, setting.offsets = (2,), np.array([0, 2])
    steps = list(setting.every_step())  # the rate is so low that none notices those before
    found, _, _ = setting.run()
    rows = {"documents": [0], "outputs": [word for word, _ in steps[0][3]][:3]}
    if setting.layer == "mapped":
        rows["map"] = rows["offset"] = [0, 7]
    if setting.join != "alone":
        rows["inputs"] = [word for _, word in steps[0][2]]
    for name, some in rows.items():
        for row in some:
            expected = sum(slope(setting, step, name, row) for step in steps)
            taken = (setting.matrices[name][row] - found[name][row]) / setting.lr
            taken /= 1 if name == "outputs" else setting.gain
            used = setting.matrices[name].any(axis=0)  # of padding, and of what no-one owns, none
            np.testing.assert_allclose(taken[used], expected[used], atol=0.02, err_msg=name)


def test_the_sampled_loss_is_the_loss_before_the_step() -> None:
    setting = Setting(lengths=(6,), keep=1.0)
    _, sampled, terms = setting.run()
    first = next(setting.every_step())
    assert terms == 6
    matrices = {name: matrix.astype(float) for name, matrix in setting.matrices.items()}
    assert sampled == pytest.approx(setting.loss(matrices, first), rel=1e-4)


def test_a_vector_depends_neither_on_company_nor_on_threads() -> None:
    setting = Setting(layer="mapped", units=24)
    whole = setting.infer(4)
    np.testing.assert_array_equal(setting.infer(4, threads=3), whole)
    alone = Setting(layer="mapped", units=24)
    begin, end = setting.offsets[3], setting.offsets[4]
    alone.ids, alone.offsets = setting.ids[begin:end], np.array([0, end - begin])
    np.testing.assert_array_equal(alone.infer(4)[0], whole[3])
    assert np.abs(setting.infer(4, seed=6) - whole).max() > 1e-4


def test_codes_are_the_bits_that_training_sees() -> None:
    setting = Setting(layer="mapped", units=24)
    weights = Weights(**{name: matrix.reshape(-1) for name, matrix in setting.matrices.items()})
    setting.matrices["documents"][1] = 0
    units = np.zeros((5, 24), np.float32)
    read_units(setting.shape, weights, units)
    for document in (0, 2, 3, 4):
        a = setting.layer_of(setting.matrices, document)
        np.testing.assert_array_equal(units[document], np.where(a > 0.5, 1, -1))
    assert not units[1].any()


@pytest.fixture(scope="module")
def encoder() -> ParagraphEncoder:
    return PVDBOW(dim=12, epochs=3, min_count=1, threads=1)(Corpus(zipf_text(200, 60, 4)))


def test_a_text_without_a_known_word_has_the_zero_vector(
    encoder: ParagraphEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["", "  ", "unheard of", next(iter(encoder.vocab.tokens))]
    with caplog.at_level(logging.WARNING, logger="tokenspace"):
        vectors = encoder.encode(texts)
    assert "3 of 4 texts have no known word" in caplog.text
    assert not vectors[:3].any()
    assert vectors[3].any()


def test_unknown_words_case_and_batches_change_nothing(encoder: ParagraphEncoder) -> None:
    first, second = encoder.vocab.tokens[:2]
    texts = [f"{first} {second}", f"{first.upper()}, qqq {second}!", f"{second} {first}"]
    vectors = encoder.encode(texts)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert (vectors[0] != vectors[2]).any()
    np.testing.assert_array_equal(encoder.encode(texts[1:2]), vectors[1:2])
    np.testing.assert_array_equal(encoder.encode(texts, batch_size=1), vectors)


def test_empty_documents_keep_their_places(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="tokenspace"):
        found = PVDBOW(dim=8, epochs=1, min_count=2, threads=1)(
            Corpus(["a b", "", "once", "b a", "a" + " b" * 12_000])
        )
    assert found.documents.shape == (5, 8)
    assert found.documents.any(axis=1).tolist() == [True, False, False, True, True]
    assert "2 of 5 documents have no word that occurs 2 times" in caplog.text
    assert found.metrics["empty"] == 2


def test_words_that_were_never_learned_have_zero_rows(encoder: ParagraphEncoder) -> None:
    known = encoder.vocab.tokens[0]
    tokens = encoder.encode_tokens([f"{known} qqq", ""])
    assert [len(matrix) for matrix in tokens] == [2, 0]
    np.testing.assert_allclose(np.linalg.norm(tokens[0], axis=1), [1, 0], atol=1e-6)
    np.testing.assert_allclose(
        tokens[0][0], encoder.words[0] / np.linalg.norm(encoder.words[0]), atol=1e-6
    )


@pytest.mark.parametrize(
    "recipe",
    [
        PVDBOW(dim=12, epochs=1, min_count=1, threads=1, words=2),
        PVDM(dim=12, epochs=1, min_count=1, threads=1, join="concat", window=2),
        BinaryPV(bits=16, dim=12, epochs=9, min_count=1, threads=1, window=2),
    ],
)
def test_a_saved_encoder_is_read_as_any_other(
    recipe: PVDBOW | PVDM | BinaryPV, tmp_path: Path
) -> None:
    texts = zipf_text(50, 40, 4)
    encoder = recipe(Corpus(texts))
    encoder.save(tmp_path / "e")
    again = load_input(TextEncoder, str(tmp_path / "e"))
    assert isinstance(again, ParagraphEncoder)
    np.testing.assert_array_equal(again.encode(texts), encoder.encode(texts))
    for part, given in zip(again.weights, encoder.weights, strict=True):
        np.testing.assert_array_equal(part, given)
    np.testing.assert_array_equal(again.documents, encoder.documents)
    np.testing.assert_array_equal(again.words, encoder.words)
    assert (again.seed, again.passes, again.metrics) == (0, 50, encoder.metrics)


def test_a_damaged_directory_is_refused(encoder: ParagraphEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "e")
    other = PVDBOW(dim=16, epochs=1, min_count=1, threads=1)(Corpus(["a b c"]))
    other.save(tmp_path / "other")
    for name in ("paragraph.safetensors", "paragraph.json", "tokenizer.json"):
        kept = (tmp_path / "e" / name).read_bytes()
        for content in (b"", b"{}", (tmp_path / "other" / name).read_bytes()):
            (tmp_path / "e" / name).write_bytes(content)
            with pytest.raises(FormatError, match=r"paragraph|tensor"):
                ParagraphEncoder.load(tmp_path / "e")
        (tmp_path / "e" / name).write_bytes(kept)
    ParagraphEncoder.load(tmp_path / "e")
    with pytest.raises(FormatError):
        ParagraphEncoder.load(tmp_path / "nowhere")


def test_bad_calls_are_refused(encoder: ParagraphEncoder) -> None:
    with pytest.raises(InputError, match="list of texts"):
        encoder.encode("one string")
    with pytest.raises(InputError, match="batch_size=0"):
        encoder.encode(["a"], batch_size=0)
    with pytest.raises(InputError, match="fewer than 2 different words"):
        PVDBOW(min_count=1)(Corpus(["a a", "a"]))
    with pytest.raises(NotConverged, match="pv_dm: vectors are not finite"):
        PVDM(dim=8, join="mean", lr=10.0, epochs=200, min_count=1, threads=1)(
            Corpus(["a b c d"] * 300)
        )


def test_many_passes_forget_where_they_began() -> None:
    texts = zipf_text(200, 60, 4)
    encoder = PVDBOW(dim=8, epochs=60, min_count=1, threads=1)(Corpus(texts))

    def agreement(passes: int) -> float:
        pair = [replace(encoder, passes=passes, seed=seed).encode(texts) for seed in (1, 2)]
        return float(cosine(*pair).mean())

    assert agreement(100) > max(0.8, agreement(1))
