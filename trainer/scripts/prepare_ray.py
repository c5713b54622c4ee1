"""`remask-train prepare` on many workers, with Ray Data: the very same shards, byte for byte.

    pip install "ray[data]" tokenizers jinja2
    python prepare_ray.py --tokenizer tok/ -o data/ books.jsonl more.parquet

Documents are tokenized by all workers of the cluster (`ray start`, or RAY_ADDRESS; without one, by those of this
machine). Then it is known which documents make which shard, and each shard is written by a worker of its own. All
workers must see the output folder. Texts come from .jsonl, .jsonl.gz, .parquet and .txt, with the fields and columns
that `prepare` takes.
"""
import argparse
import json
import logging
import os
import struct

import numpy as np
import ray

SHARD_TOKENS = 1 << 26
FIELDS = ["text", "prompt", "response", "messages", "chosen", "rejected"]
ENDS = ["<|endoftext|>", "<|end_of_text|>", "</s>"]
# Text is tokenized in pieces, cut before a space between letters; a single word has at most WORD bytes.
PIECE, WORD = 16 << 10, 64 << 10


def fnv(data):
    """What the trainer tells tokenizers apart by."""
    h = 0xCBF29CE484222325
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def read_json(path):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        return {}


def spelled(value):
    return value.get("content", "") if isinstance(value, dict) else value or ""


class Encoder:
    """Documents to examples: lists of (tokens, tokens of the prompt, bytes of what is learned)."""

    def __init__(self, folder):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        # What a text spells stays text.
        self.tokenizer.encode_special_tokens = True
        self.n_vocab = max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.width = 2 if self.n_vocab <= 1 << 16 else 4
        config = read_json(os.path.join(folder, "config.json"))
        names = read_json(os.path.join(folder, "tokenizer_config.json"))
        self.bos, self.eos_text = spelled(names.get("bos_token")), spelled(names.get("eos_token"))
        self.eos = config.get("eos_token_id")
        if self.eos is None:
            found = (self.tokenizer.token_to_id(t) for t in [self.eos_text, *ENDS] if t)
            self.eos = next((i for i in found if i is not None), None)
        if self.eos is None:
            raise SystemExit(f"{folder}: has no end token")
        self.special = {
            t.content: i for i, t in self.tokenizer.get_added_tokens_decoder().items() if t.special
        }
        beside = os.path.join(folder, "chat_template.jinja")
        source = open(beside, encoding="utf-8").read() if os.path.exists(beside) else names.get("chat_template")
        self.template = None
        if source:
            from jinja2.sandbox import ImmutableSandboxedEnvironment

            environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
            self.template = environment.from_string(source)

    def plain(self, text):
        data, ids = text.encode(), []
        while data:
            end = self.cut(data)
            ids += self.tokenizer.encode(data[:end].decode(), add_special_tokens=False).ids
            data = data[end:]
        return ids

    @staticmethod
    def cut(data):
        if len(data) <= PIECE:
            return len(data)
        text = data[: WORD + 4].decode(errors="ignore")
        at, before = 0, ""
        for i, c in enumerate(text):
            if at > WORD:
                break
            if at >= PIECE and c == " " and before.isalpha() and text[i + 1 : i + 2].isalpha():
                return at
            at, before = at + len(c.encode()), c
        end = min(WORD, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        return end

    def prompt(self, turns):
        """As the template writes it: its special tokens are ids, those that a message spells are text."""
        if self.template is None:
            return self.plain("\n".join(t["content"] for t in turns))
        # Marks from a private plane stand in for the messages, spaces around them show whether they are trimmed.
        marks = [f"\U000f0000{i}\U000f0001" for i in range(len(turns))]
        stand_ins = [{"role": t["role"], "content": f" {m} "} for t, m in zip(turns, marks)]
        options = {"add_generation_prompt": True, "bos_token": self.bos, "eos_token": self.eos_text}
        text = self.template.render(messages=stand_ins, **options)
        contents = []
        for turn, mark in zip(turns, marks):
            content = turn["content"]
            left, right = f" {mark}" in text, f"{mark} " in text
            content = content if left else content.lstrip()
            content = content if right else content.rstrip()
            text = text.replace(f"{' ' * left}{mark}{' ' * right}", mark)
            contents.append(content)
        ids, run, at = [], "", 0
        while at < len(text):
            mark = next((i for i, m in enumerate(marks) if text.startswith(m, at)), None)
            token = max((t for t in self.special if text.startswith(t, at)), key=len, default=None)
            if mark is not None:
                run, at = run + contents[mark], at + len(marks[mark])
            elif token is not None:
                ids, run, at = ids + self.plain(run) + [self.special[token]], "", at + len(token)
            else:
                run, at = run + text[at], at + 1
        return ids + self.plain(run)

    def answer(self, turns, answer):
        prompt = self.prompt(turns)
        return prompt + self.plain(answer) + [self.eos], len(prompt), len(answer.encode())

    def encode(self, row):
        """Groups of examples that stay together, and whether they are a pair of answers."""
        ask = [{"role": "user", "content": row.get("prompt")}]
        if None not in (row.get("prompt"), row.get("chosen"), row.get("rejected")):
            return [[self.answer(ask, row["chosen"]), self.answer(ask, row["rejected"])]], True
        if None not in (row.get("prompt"), row.get("response")):
            turns = ask + [{"role": "assistant", "content": row["response"]}]
        elif row.get("messages") is not None:
            turns = list(row["messages"])
        elif row.get("text") is not None:
            text = row["text"]
            return [[(self.plain(text) + [self.eos], 0, len(text.encode()))]], False
        else:
            raise ValueError(f"a document has none of {FIELDS}")
        answers = (i for i, t in enumerate(turns) if t["role"] == "assistant")
        return [[self.answer(turns[:i], turns[i]["content"])] for i in answers], False


def runs(tokens, n):
    a = np.asarray(tokens, dtype=np.uint32)
    return {a[i : i + n].tobytes() for i in range(len(a) - n + 1)}


ENCODERS = {}


def encoder_of(folder):
    """One for each worker's process."""
    if folder not in ENCODERS:
        ENCODERS[folder] = Encoder(folder)
    return ENCODERS[folder]


def tokenize(batch, folder, max_length, excluded, ngram):
    """One batch of documents to one row per example."""
    encoder, excluded = encoder_of(folder), ray.get(excluded[0])
    dtype = f"<u{encoder.width}"

    def left_out(group):
        if max_length and any(p and len(t) > max_length for t, p, _ in group):
            return True
        return bool(excluded) and any(runs(t, ngram) & excluded for t, _, _ in group)

    out = {"tokens": [], "n_tokens": [], "n_prompt": [], "n_bytes": [], "joined": [], "pair": []}
    for line in batch["line"]:
        if not line.strip():
            continue
        groups, pair = encoder.encode(json.loads(line))
        for group in groups:
            if left_out(group):
                continue
            for i, (tokens, n_prompt, n_bytes) in enumerate(group):
                out["tokens"].append(np.asarray(tokens, dtype=dtype).tobytes())
                out["n_tokens"].append(len(tokens))
                out["n_prompt"].append(n_prompt)
                out["n_bytes"].append(n_bytes)
                # The second of a pair stays with the first.
                out["joined"].append(i > 0)
                out["pair"].append(pair)
    return out


@ray.remote
def lengths(block):
    return [block[c].to_pylist() for c in ("n_tokens", "n_prompt", "n_bytes", "joined", "pair")] if block.num_rows else None


@ray.remote
def write_shard(path, width, n_vocab, parts, *blocks):
    """Writes one shard from ranges of examples; returns how often each token is learned."""
    tokens, index, n, counts = [], [], 0, np.zeros(n_vocab, dtype=np.int64)
    for block, (begin, end) in zip(blocks, parts):
        rows = block.slice(begin, end - begin)
        for data, n_prompt in zip(rows["tokens"].to_pylist(), rows["n_prompt"].to_pylist()):
            a = np.frombuffer(data, dtype=f"<u{width}")
            counts += np.bincount(a[n_prompt:], minlength=n_vocab)
            n += len(a)
            index.append(struct.pack("<QQ", n, n_prompt))
            tokens.append(data)
    partial = f"{path}.{os.getpid()}.partial"
    with open(partial, "wb") as f:
        f.write(b"RMKTOK01" + struct.pack("<IIQQ", width, 0, len(index), n))
        f.writelines(index)
        f.writelines(tokens)
        f.flush()
        os.fsync(f.fileno())
    os.replace(partial, path)
    return counts


def documents(path):
    """The file's documents as lines of JSON, in their order."""
    name = path[:-3] if path.endswith(".gz") else path
    if name.endswith(".parquet"):
        table = ray.data.read_parquet(path)
        table = table.select_columns([c for c in table.schema().names if c in FIELDS])
        return table.map(lambda row: {"line": json.dumps(row)})
    if name.endswith((".jsonl", ".json")):
        return ray.data.read_text(path).rename_columns({"text": "line"})
    whole = open(path, encoding="utf-8").read()
    return ray.data.from_items([{"line": json.dumps({"text": whole})}] if whole.strip() else [])


def plan(counted, limit):
    """Which ranges of which blocks make which shard: a shard ends with the document that fills it."""
    shards, parts, n, n_documents = [], [], 0, 0
    for at, found in enumerate(counted):
        if found is None:
            continue
        sizes, joined, begin = found[0], found[3], 0
        for i, size in enumerate(sizes):
            n, n_documents = n + size, n_documents + 1
            last = i + 1 == len(sizes)
            if n >= limit and (last or not joined[i + 1]):
                parts.append((at, begin, i + 1))
                shards.append((parts, n_documents, n))
                parts, n, n_documents, begin = [], 0, 0, i + 1
        if begin < len(sizes):
            parts.append((at, begin, len(sizes)))
    if parts:
        shards.append((parts, n_documents, n))
    return shards


def excluded_runs(encoder, files, ngram):
    found = set()
    for path in files:
        for row in documents(os.path.abspath(path)).iter_rows():
            for group in encoder.encode(json.loads(row["line"]))[0]:
                for tokens, n_prompt, _ in group:
                    found |= runs(tokens[n_prompt:], ngram) | runs(tokens[:n_prompt], ngram)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--max-length", type=int, default=0)
    parser.add_argument("--exclude", action="append", default=[])
    parser.add_argument("--ngram", type=int, default=13)
    parser.add_argument("--shard-tokens", type=int, default=SHARD_TOKENS)
    parser.add_argument("--workers", type=int, default=0, help="0 is one per CPU of the cluster")
    args = parser.parse_args()
    manifest = os.path.join(args.output, "manifest.json")
    if os.path.exists(manifest):
        raise SystemExit(f"{args.output} holds prepared data already; name another folder")
    folder, output = os.path.abspath(args.tokenizer), os.path.abspath(args.output)
    os.makedirs(output, exist_ok=True)
    ray.init(num_cpus=(args.workers or None) if "RAY_ADDRESS" not in os.environ else None, log_to_driver=False, logging_level="ERROR")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    ray.data.DataContext.get_current().enable_progress_bars = False
    encoder = Encoder(folder)
    excluded = ray.put(excluded_runs(encoder, args.exclude, args.ngram))
    blocks = []
    for path in args.files:
        data = documents(os.path.abspath(path)).map_batches(
            tokenize,
            fn_args=(folder, args.max_length, [excluded], args.ngram),
            batch_size=256,
        )
        blocks += data.to_arrow_refs()
    counted = ray.get([lengths.remote(b) for b in blocks])
    kinds = {pair for found in counted if found for pair in found[4]}
    if not kinds:
        raise SystemExit("the files have no document that could be used")
    if len(kinds) > 1:
        raise SystemExit("pairs of `chosen` and `rejected` are prepared apart from other documents")
    shards = plan(counted, args.shard_tokens)
    names = [f"shard-{i:05}.tokens" for i in range(len(shards))]
    tasks = [
        write_shard.remote(
            os.path.join(output, name),
            encoder.width,
            encoder.n_vocab,
            [(begin, end) for _, begin, end in parts],
            *[blocks[at] for at, _, _ in parts],
        )
        for name, (parts, _, _) in zip(names, shards)
    ]
    with open(os.path.join(folder, "tokenizer.json"), "rb") as f:
        fingerprint = fnv(f.read())
    about = {
        "version": 1,
        "tokenizer": fingerprint,
        "n_vocab": encoder.n_vocab,
        "shards": [
            {"file": name, "n_documents": n_documents, "n_tokens": n}
            for name, (_, n_documents, n) in zip(names, shards)
        ],
        "counts": [int(n) for n in sum(ray.get(tasks))],
        "n_bytes": sum(sum(found[2]) for found in counted if found),
        "pairs": kinds.pop(),
    }
    with open(f"{manifest}.partial", "w", encoding="utf-8") as f:
        json.dump(about, f, separators=(",", ":"), ensure_ascii=False)
    os.replace(f"{manifest}.partial", manifest)
    n = sum(s["n_tokens"] for s in about["shards"])
    print(f"{args.output}: {sum(s['n_documents'] for s in about['shards'])} documents, {n} tokens, {len(names)} shards")


if __name__ == "__main__":
    main()
