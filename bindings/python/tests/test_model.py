"""Loading, vocabulary, and the short ways. Expected texts are facts of the little world (models/README.md)."""

from __future__ import annotations

import gc
import io
import weakref
from pathlib import Path

import numpy as np
import pytest

import remask

OWL = "Once upon a time Lucy met a brown owl near the bridge. The owl said hoot. Who was there?"
START = "Once upon a time Mary met a"


def test_a_model_is_the_same_from_path_bytes_and_file(path: Path, model: remask.Model) -> None:
    expected = model.logits(START)
    data = path.read_bytes()
    for source in (path, data, bytearray(data), memoryview(data), io.BytesIO(data)):
        with remask.Model(source, threads=1) as other:
            assert np.array_equal(other.logits(START), expected)
    with path.open("rb") as file, remask.Model(file, threads=1) as other:
        assert other.info == model.info


def test_info_and_metadata_agree(model: remask.Model) -> None:
    metadata = model.metadata
    assert metadata["general.architecture"] == model.info.arch == "llada"
    assert metadata["llada.embedding_length"] == str(model.info.n_embd)
    assert metadata["tokenizer.ggml.mask_token_id"] == str(model.info.mask_token)


def test_tokens_and_text_go_both_ways(model: remask.Model) -> None:
    text = "Mary met a crow. Größe 猫 🦉"
    tokens = model.encode(text)
    assert model.decode(tokens) == model.decode(np.array(tokens)) == text
    assert b"".join(model.token_bytes(token) for token in tokens) == text.encode()
    decoder = model.decoder()
    pieces = [decoder.push([token]) for token in tokens]
    assert "".join(pieces) + decoder.finish() == text
    assert all("\ufffd" not in piece for piece in pieces)


def test_special_tokens_of_a_text_stay_text_unless_asked_for(model: remask.Model) -> None:
    mask = model.info.mask_token
    spelled = model.token_bytes(mask).decode()
    assert model.token_id(spelled) == mask
    assert model.token_attr(mask).control
    assert mask not in model.encode(spelled)
    assert model.encode(spelled, special=True) == [mask]
    assert model.token_id("no such token") is None
    with pytest.raises(remask.NotFoundError):
        model.token_attr(1 << 20)


def test_a_question_is_answered_through_the_template(model: remask.Model) -> None:
    answer = model.chat(OWL, 16)
    assert str(answer) == answer.text == "Lucy was there."
    assert model.encode_chat([{"role": "user", "content": OWL}]) == answer.canvas.tokens.tolist()[:-16]
    assert OWL in model.render_chat([{"role": "user", "content": OWL}])


def test_holes_are_filled_and_the_rest_stays(model: remask.Model) -> None:
    text = "Once upon a time Tom met a brown[[1]] near the river. The duck said[[1]]."
    filled = model.infill(text)
    assert filled.fills == (" duck", " quack")
    assert filled.text == "Once upon a time Tom met a brown duck near the river. The duck said quack."


def test_generation_is_the_same_with_and_without_a_callback_and_in_a_batch(model: remask.Model) -> None:
    params = remask.GenerateParams(temperature=0.8, seed=7, block_length=8, steps=12)
    seen: list[remask.Step] = []
    alone = model.generate(START, 24, params=params)
    watched = model.generate(START, 24, params=params, on_step=seen.append)
    batch = model.generate_many(["hello", START], 24, params=params)
    assert alone.tokens.tolist() == watched.tokens.tolist() == batch[1].tokens.tolist()
    assert len(alone.tokens) == 24
    assert alone.text == model.decode(alone.tokens)
    assert len(seen) == alone.nfe == 12
    assert sum(len(step.changed) for step in seen) == 24
    assert model.generate_many([], 4) == []
    assert model.generate(START, 24, params=params, seed=8).tokens.tolist() != alone.tokens.tolist()


def test_what_on_step_raises_ends_the_run_and_leaves_the_model_usable(model: remask.Model) -> None:
    def on_step(step: remask.Step) -> None:
        raise KeyError(step.i_step)

    with pytest.raises(KeyError):
        model.generate(START, 8, on_step=on_step)
    assert model.generate(START, 8).nfe == 8


def test_scores_and_choices_agree(model: remask.Model) -> None:
    prompt = "Once upon a time Tom met a brown duck. The duck said"
    calls = [" quack", " hoot", " moo"]
    choice = model.choose(prompt, calls, method="pseudo")
    scores = [model.score(prompt, call, method="pseudo") for call in calls]
    assert choice.best == 0
    assert choice.log_likelihoods == pytest.approx([score.log_likelihood for score in scores], abs=1e-6)
    softmax = np.exp(choice.log_likelihoods) / np.exp(choice.log_likelihoods).sum()
    assert choice.probabilities == pytest.approx(softmax)
    # One masked token alone: both ways are that token's log-probability.
    tokens = model.encode(prompt + " hoot")
    row = model.logits([*tokens[:-1], model.info.mask_token], rows=[len(tokens) - 1])[0].astype(float)
    if tokens[:-1] == model.encode(prompt):
        expected = row[tokens[-1]] - np.log(np.exp(row - row.max()).sum()) - row.max()
        assert scores[1].log_likelihood == pytest.approx(expected, abs=1e-3)
    response = " quack. Tom gave it bread"
    bound = model.score(prompt, response, samples=32, seed=1)
    assert bound == model.score(prompt, response, samples=32, seed=1)
    assert bound.nfe == 32 and bound.n_tokens == len(model.encode(response)) and bound.standard_error > 0


def test_arrays_have_their_shapes_and_poolings_agree(model: remask.Model) -> None:
    tokens = model.encode(START)
    logits = model.logits(START)
    assert logits.shape == (len(tokens), model.info.n_vocab) and logits.dtype == np.float32
    assert np.allclose(model.logits(tokens, rows=[3, 1]), logits[[3, 1]], atol=1e-4)
    assert model.logits(tokens, rows=[]).shape == (0, model.info.n_vocab)
    each = model.embed(START, "none")
    assert each.shape == (len(tokens), model.info.n_embd)
    assert np.allclose(model.embed(START), each.mean(axis=0), atol=1e-4)
    assert np.array_equal(model.embed(START, "last"), each[-1])


def test_an_error_has_its_class_status_and_message(tmp_path: Path, path: Path, model: remask.Model) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(remask.FormatError) as format_error:
        remask.Model(broken)
    assert format_error.value.status == 3 and "broken.gguf" in str(format_error.value)
    with pytest.raises(remask.IoError, match="absent"):
        remask.Model(tmp_path / "absent.gguf")
    with pytest.raises(remask.InvalidArgumentError, match="temperature"):
        model.generate(START, 4, temperature=-1)
    with pytest.raises(remask.DeviceError):
        remask.Model(path, device="no such device")
    with pytest.raises(remask.InvalidArgumentError, match="split has 2 parts"):
        remask.Model(path, device="cpu", split=[3, 1])
    with pytest.raises(remask.InvalidArgumentError, match="two or more GPUs"):
        remask.Model(path, device="cpu", split_mode="tensors")
    with pytest.raises(ValueError, match="split is 'rows'"):
        remask.Model(path, split_mode="rows")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        model.generate(START, 4, no_such_option=1)  # type: ignore[call-arg]
    for wrong in ({"order": "best"}, {"steps": -1}, {"seed": 1 << 64}, {"stop": "text"}, {"threshold": 1, "factor": 1}):
        with pytest.raises(ValueError):
            model.generate(START, 4, **wrong)
    for tokens in ([1.5], [[1]], [1 << 40], [-1]):
        with pytest.raises(ValueError):
            model.decode(tokens)  # type: ignore[arg-type]


def test_what_a_file_or_a_progress_function_raises_comes_out(path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, n: int | None = -1, /) -> bytes:
            raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        remask.Model(Broken(path.read_bytes()))

    def stop(done: int, total: int) -> None:
        raise StopAsyncIteration

    # A file that is mapped for the CPU is not read, and nothing is heard; one behind a reader is.
    with path.open("rb") as file, pytest.raises(StopAsyncIteration):
        remask.Model(file, on_progress=stop)
    heard: list[tuple[int, int]] = []
    remask.Model(io.BytesIO(path.read_bytes()), on_progress=lambda done, total: heard.append((done, total))).close()
    assert heard and heard[-1][0] == heard[-1][1]


def test_closing_ends_a_model_but_not_what_was_made_from_it(path: Path) -> None:
    model = remask.Model(path, threads=1)
    canvas, session = model.canvas().append_text("hello").append_masks(2), model.session()
    model.close()
    with pytest.raises(ValueError, match="closed"):
        model.encode("x")
    session.generate(canvas)
    assert canvas.n_masked == 0
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.generate(canvas)


def test_a_dropped_model_is_collected(path: Path) -> None:
    model = remask.Model(path, threads=1)
    model.generate("hello", 2)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_estimates_agree(path: Path, model: remask.Model) -> None:
    estimate = remask.estimate(path, 128, 64)
    assert estimate == remask.estimate(model, 128, 64) == remask.estimate(path.read_bytes(), 128, 64)
    assert estimate.weights == model.info.n_bytes and estimate.session > 0


def test_a_model_is_written_as_another_type(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "f16.gguf"
    remask.quantize(path, target, "f16", requantize=True)
    with remask.Model(target, threads=1) as written:
        assert written.chat(OWL, 16).text == "Lucy was there."
    with pytest.raises(remask.Error):
        remask.quantize(path, target, "f16", requantize=True)
    remask.quantize(path, target, "q8_0", requantize=True, overwrite=True)


def test_devices_and_log(path: Path) -> None:
    assert any(device.kind == "cpu" for device in remask.devices())
    # The library of the wheel has its backends inside.
    with pytest.raises(remask.UnsupportedError):
        remask.load_backends(path.parent)
    lines: list[tuple[int, str]] = []
    remask.set_log(lambda level, text: lines.append((level, text)))
    try:
        remask.Model(path).close()
    finally:
        remask.set_log(None)
    assert all(remask.LOG_DEBUG <= level <= remask.LOG_ERROR for level, _ in lines)
