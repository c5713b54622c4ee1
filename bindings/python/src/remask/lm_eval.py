"""A model class for EleutherAI's lm-eval, registered as `remask`.

    python -m remask.lm_eval --model remask --model_args model=llada.gguf,samples=128 --tasks ...

takes the options of `lm_eval`; so does `lm_eval.simple_evaluate` after `import remask.lm_eval`. Needs
`pip install remask[lm-eval]`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import lm_eval.models  # noqa: F401  (else the registry takes ours for the whole list)
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from ._model import Model
from ._params import Flash, Order, ScoreMethod


@register_model("remask")
class RemaskLM(LM):  # type: ignore[misc]
    """Evaluates a model file.

    model: path. method, samples, score_batch, seed: how likelihoods are estimated; see `ScoreParams`. check_greedy:
    whether greedy decoding gives the continuation is worked out with one pass per token of it; without it the answer
    is always no, and tasks that count it (LAMBADA) must not be run. steps, block_length, order, threshold, guidance:
    of generation; see `GenerateParams`. max_gen_toks: slots of a response, where a task does not say. batch_size:
    prompts in one run. special: special tokens that prompts spell become their ids, as a chat template's must.
    device, gpu_layers, threads, flash: see `Model`.
    """

    def __init__(
        self,
        model: str,
        *,
        method: ScoreMethod = "bound",
        samples: int = 128,
        score_batch: int = 0,
        seed: int = 0,
        check_greedy: bool = True,
        steps: int = 0,
        block_length: int = 0,
        order: Order = "low_confidence",
        threshold: float | None = None,
        guidance: float = 0.0,
        max_gen_toks: int = 128,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        special: bool = False,
        device: str | None = None,
        gpu_layers: int = 0,
        threads: int = 0,
        flash: Flash = "auto",
    ) -> None:
        super().__init__()
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be a number of 1 or more")
        self.path = str(model)
        self.model = Model(self.path, device=device, gpu_layers=gpu_layers, threads=threads, flash=flash)
        self.batch_size = min(int(batch_size), max_batch_size or int(batch_size))
        self.check_greedy, self.max_gen_toks, self.special = check_greedy, max_gen_toks, special
        self._score: dict[str, Any] = {
            "method": method,
            "samples": samples if method == "bound" else 0,
            "batch": score_batch,
            "seed": seed,
            "guidance": guidance if method == "bound" else 0.0,
        }
        self._generate: dict[str, Any] = {
            "steps": steps,
            "block_length": block_length,
            "order": order,
            "threshold": threshold,
            "guidance": guidance,
            "seed": seed,
        }

    # Tokens.

    def _encode(self, text: str, bos: bool) -> list[int]:
        return self.model.encode(text, special=self.special, bos=bos)

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """A context and its continuation, cut where the context's own tokens end; spaces go to the continuation."""
        text = context.rstrip()
        continuation = context[len(text) :] + continuation
        head = self._encode(text, bos=True)
        whole = self._encode(text + continuation, bos=True)
        if whole[: len(head)] == head and len(whole) > len(head):
            return head, whole[len(head) :]
        # The border lies inside a token: then the two are spelled apart.
        return head, self._encode(continuation, bos=False)

    def _cut(self, head: list[int], n_tail: int) -> list[int]:
        """The end of a context, as much as there is room for."""
        room = self.model.info.n_ctx - n_tail
        if room < 0:
            raise ValueError(f"a continuation has {n_tail} tokens; the model takes {self.model.info.n_ctx}")
        return head[max(0, len(head) - room) :]

    # What lm-eval calls.

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation in nats, and whether greedy decoding gives it."""
        results: list[tuple[float, bool]] = []
        for request in tqdm(requests, disable=disable_tqdm, desc="loglikelihood"):
            head, tail = self._pair(*request.args)
            if not tail:
                raise ValueError(f"a continuation is empty: {request.args[1]!r}")
            head = self._cut(head, len(tail))
            greedy = self.check_greedy and self._is_greedy(head, tail)
            result = (self.model.score(head, tail, **self._score).log_likelihood, greedy)
            self.cache_hook.add_partial("loglikelihood", request.args, result)
            results.append(result)
        return results

    def _is_greedy(self, head: list[int], tail: list[int]) -> bool:
        # The reference's: one token a pass, the surest first; whatever the steps of generation are.
        options = {"guidance": self._generate["guidance"]}
        return bool(self.model.generate(head, len(tail), **options).tokens.tolist() == tail)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts in nats; long ones in windows, each given the tokens before it."""
        results: list[float] = []
        info = self.model.info
        prefix = info.bos_token if info.bos_token is not None else info.eos_token
        for request in tqdm(requests, disable=disable_tqdm, desc="loglikelihood_rolling"):
            tokens = self._encode(request.args[0], bos=False)
            windows: Iterable[tuple[list[int], list[int]]]
            if prefix is None:
                size = info.n_ctx
                windows = [([], tokens[i : i + size]) for i in range(0, len(tokens), size)]
            else:
                # Context and prediction share the canvas, so a window predicts one token less than it holds.
                rolling = get_rolling_token_windows(
                    token_list=tokens, prefix_token=prefix, max_seq_len=info.n_ctx - 1, context_len=1
                )
                windows = map(make_disjoint_window, rolling)
            total = math.fsum(
                self.model.score(self._cut(list(head), len(tail)), list(tail), **self._score).log_likelihood
                for head, tail in windows
            )
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
            results.append(total)
        return results

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """A response to each context, up to the first of the task's stop texts."""
        results = [""] * len(requests)
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(repr(sorted(request.args[1].items())), []).append(i)
        bar = tqdm(total=len(requests), disable=disable_tqdm, desc="generate_until")
        for indices in groups.values():
            options, n_slots, until = self._options(requests[indices[0]].args[1])
            for at in range(0, len(indices), self.batch_size):
                batch = indices[at : at + self.batch_size]
                heads = [self._cut(self._encode(requests[i].args[0], bos=True), n_slots) for i in batch]
                for i, made in zip(batch, self.model.generate_many(heads, n_slots, **options), strict=True):
                    results[i] = _before(made.text, until)
                    self.cache_hook.add_partial("generate_until", requests[i].args, results[i])
                bar.update(len(batch))
        bar.close()
        return results

    def _options(self, given: dict[str, Any]) -> tuple[dict[str, Any], int, list[str]]:
        """A task's generation arguments as ours. One that is unknown raises `ValueError`."""
        asked = dict(given)
        until = asked.pop("until", None) or []
        until = [until] if isinstance(until, str) else [text for text in until if text]
        n_slots = int(asked.pop("max_gen_toks", asked.pop("max_new_tokens", self.max_gen_toks)))
        options = {**self._generate, "stop": until, "stop_at_eos": True}
        temperature = float(asked.pop("temperature", 0.0) or 0.0)
        options["temperature"] = temperature if asked.pop("do_sample", temperature > 0) else 0.0
        for name in (*self._generate, "top_k", "top_p", "factor", "repetition_penalty"):
            if name in asked:
                options[name] = asked.pop(name)
        if asked:
            raise ValueError(f"generation arguments that remask does not have: {', '.join(sorted(asked))}")
        return options, n_slots, until

    # Chat.

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as the model's prompt. Load with special=True, so that its marks become tokens."""
        if not self.special:
            raise ValueError("a chat template writes special tokens: give special=True with --apply_chat_template")
        return self.model.render_chat(chat_history, closed=not add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's text, for lm-eval's records."""
        return self.model.metadata.get("tokenizer.chat_template", "") if chat_template else None

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval's request cache is told apart by."""
        made_of = self.model.metadata
        text = "\n".join(f"{key}={made_of[key]}" for key in sorted(made_of) if key.startswith("tokenizer."))
        return f"remask-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _before(text: str, stops: list[str]) -> str:
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def main() -> None:
    """lm-eval's own command, with this model class in it."""
    from lm_eval.__main__ import cli_evaluate

    run: Callable[[], None] = cli_evaluate
    run()


if __name__ == "__main__":
    main()
