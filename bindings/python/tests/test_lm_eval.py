"""The model class, called by the real lm-eval. Facts of the little world; no downloads."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import remask

pytest.importorskip("lm_eval")

from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.api.registry import get_model  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

import remask.lm_eval  # noqa: E402

DUCK = "Once upon a time Tom met a brown duck. The duck said"


def instances(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=args, idx=i)
        for i, args in enumerate(arguments)
    ]


def language_model(path: Path, **options: Any) -> remask.lm_eval.RemaskLM:
    return remask.lm_eval.RemaskLM(str(path), threads=1, **options)


def test_the_class_is_registered(path: Path) -> None:
    assert get_model("remask") is remask.lm_eval.RemaskLM
    assert get_model("dummy") is not remask.lm_eval.RemaskLM
    made = get_model("remask").create_from_arg_string(f"model={path},samples=16,threads=1", {"batch_size": 2})
    assert made.batch_size == 2


def test_likelihoods_are_the_models_own(path: Path, model: remask.Model) -> None:
    lm = language_model(path, method="pseudo")
    quack, hoot = lm.loglikelihood(instances("loglikelihood", (DUCK, " quack"), (DUCK, " hoot")), disable_tqdm=True)
    assert quack[0] == pytest.approx(model.score(DUCK, " quack", method="pseudo").log_likelihood)
    assert quack[0] > hoot[0] and quack[1] and not hoot[1]
    # A space at the end of the context is the continuation's.
    (moved,) = lm.loglikelihood(instances("loglikelihood", (DUCK + " ", "quack")), disable_tqdm=True)
    assert moved == quack
    (empty,) = lm.loglikelihood(instances("loglikelihood", ("", "Once upon a time")), disable_tqdm=True)
    assert empty[0] < 0


def test_a_context_that_is_too_long_loses_its_beginning(path: Path) -> None:
    lm = language_model(path, method="pseudo")
    (long,) = lm.loglikelihood(instances("loglikelihood", ("Ben saw it. " * 300 + DUCK, " quack")), disable_tqdm=True)
    assert long[0] < 0 and math.isfinite(long[0])


def test_every_token_of_a_long_text_is_scored_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = language_model(path, samples=8)
    text = "Once upon a time Tom met a brown duck near the river. " * 40
    scored: list[int] = []
    score = lm.model.score

    def record(head: list[int], tail: list[int], **options: Any) -> remask.Score:
        assert len(head) + len(tail) <= lm.model.info.n_ctx
        scored.extend(tail)
        return score(head, tail, **options)

    monkeypatch.setattr(lm.model, "score", record)
    (total,) = lm.loglikelihood_rolling(instances("loglikelihood_rolling", (text,)), disable_tqdm=True)
    assert scored == lm.model.encode(text)
    assert math.isfinite(total) and total < 0


def test_responses_end_before_the_stop_text_and_batches_change_nothing(path: Path) -> None:
    prompt, other = "Once upon a time Mary met a", "Once upon a time Tom met a"
    asked = {"until": ["."], "max_gen_toks": 16, "do_sample": False, "temperature": 0.0}
    requests = instances("generate_until", (prompt, asked), (other, asked), (prompt, {**asked, "until": []}))
    one = language_model(path).generate_until(requests, disable_tqdm=True)
    assert one == language_model(path, batch_size=2).generate_until(requests, disable_tqdm=True)
    assert "." not in one[0] and one[2].startswith(one[0])
    with pytest.raises(ValueError, match="num_beams"):
        language_model(path).generate_until(instances("generate_until", (prompt, {"num_beams": 2})), disable_tqdm=True)


def test_a_task_of_ones_own_is_evaluated(path: Path, tmp_path: Path) -> None:
    calls = {"duck": "quack", "owl": "hoot", "cow": "moo", "sheep": "baa"}
    data = tmp_path / "calls.jsonl"
    names = list(calls)
    lines = [
        {"prompt": f"Once upon a time Tom met a brown {name}. The {name} said", "answer": i}
        for i, name in enumerate(names)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "calls.yaml").write_text(
        f"""
task: calls
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: {json.dumps(list(calls.values()))}
doc_to_target: answer
metric_list: [{{metric: acc}}]
"""
    )
    results = simple_evaluate(
        model="remask",
        model_args={"model": str(path), "method": "pseudo", "threads": 1, "check_greedy": False},
        tasks=["calls"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
    )
    assert results is not None
    assert results["results"]["calls"]["acc,none"] == 1.0


def test_a_chat_template_needs_special_tokens(path: Path, model: remask.Model) -> None:
    messages = [{"role": "user", "content": "Who was there?"}]
    with pytest.raises(ValueError, match="special"):
        language_model(path).apply_chat_template(messages)
    lm = language_model(path, special=True)
    assert lm.model.encode(lm.apply_chat_template(messages), special=True) == model.encode_chat(messages)
    assert lm.tokenizer_name.startswith("remask-")
