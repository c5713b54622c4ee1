"""Generate with live steps, infill, score.

python remask_example.py generate MODEL PROMPT [N_SLOTS]
python remask_example.py infill   MODEL "The [[4]] sat on the [[3]]."
python remask_example.py score    MODEL PROMPT RESPONSE
"""

from __future__ import annotations

import sys

import remask


def generate(model: remask.Model, prompt: str, n_slots: int = 32) -> None:
    canvas = model.canvas().append_text(prompt, bos=True).append_masks(n_slots)
    begin = len(canvas) - n_slots
    for step in model.session().run(canvas):
        shown = "".join(
            "_" if state == remask.MASKED else model.decode([token])
            for token, state in zip(step.tokens[begin : step.end], step.slots[begin : step.end], strict=True)
        )
        print(f"{step.i_step:3}/{step.n_steps} {shown!r}")
    print(prompt + canvas.text(begin))


def infill(model: remask.Model, text: str) -> None:
    filled = model.infill(text)
    print(filled)
    print("holes:", list(filled.fills))


def score(model: remask.Model, prompt: str, response: str) -> None:
    found = model.score(prompt, response)
    print(f"{found.log_likelihood:.3f} ± {found.standard_error:.3f} nats, {found.n_tokens} tokens, {found.nfe} passes")


def main(arguments: list[str]) -> int:
    match arguments:
        case ["generate", path, prompt]:
            generate(remask.Model(path), prompt)
        case ["generate", path, prompt, n_slots]:
            generate(remask.Model(path), prompt, int(n_slots))
        case ["infill", path, text]:
            infill(remask.Model(path), text)
        case ["score", path, prompt, response]:
            score(remask.Model(path), prompt, response)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (remask.Error, ValueError) as error:
        sys.exit(f"remask_example: {error}")
