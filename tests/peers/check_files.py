"""Reads what duologue writes with other people's programs, and compares: h5py, safetensors, transformers, plain Python.

usage: check_files.py --programs build/bin [--part data|checkpoint|model ...]
"""

import argparse
import importlib
import json
import random
import subprocess
import sys
import tempfile
import unicodedata
import zlib
from collections import Counter
from pathlib import Path

SPECIAL = ["<pad>", "<sos>", "<eos>", "<unk>"]
UNKNOWN = 3
MODEL_OPTIONS = ["--model.width=64", "--model.heads=4", "--model.hidden=128", "--model.encoder_layers=2",
                 "--model.decoder_layers=2", "--data.max_context_tokens=64", "--data.max_reply_tokens=24",
                 "--data.micro_batch_tokens=1024", "--train.micro_batches_per_step=1", "--train.steps=150",
                 "--train.warmup_steps=50", "--train.learning_rate=0.003", "--device.kind=cpu", "--device.threads=1",
                 "--chat.at_end=never"]


def require(condition, message):
    if not condition:
        raise SystemExit(f"check_files.py: FAILED: {message}")


def imported(name):
    """Each part needs its own packages only."""
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise SystemExit(f"check_files.py: {problem}; install tests/peers/requirements.txt, or python3-h5py for --part data")


def run(*command, text=None):
    result = subprocess.run([str(word) for word in command], input=text, capture_output=True, text=True, check=False)
    require(result.returncode == 0, f"{' '.join(map(str, command))}: status {result.returncode}: {result.stderr}")
    return result.stdout


# ---- an independent preprocessing, from the description in preprocess/README.md ----


def words_of(text):
    text = unicodedata.normalize("NFC", text)
    text = unicodedata.normalize("NFC", text.lower())
    words, word = [], ""
    for letter in text:
        category = unicodedata.category(letter)
        if letter in "'\u2019":
            word += "'"
        elif category[0] in "LM" or category == "Nd":
            word += letter
        else:
            words += [word] if word else []
            word = ""
            if not letter.isspace():
                words.append(letter)
    return words + ([word] if word else [])


def conversations_of(path):
    """Turns as (speaker, words); turns of one speaker joined, empty ones dropped."""
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        speakers = record.get("speakers")
        names, turns = {}, []
        for i, text in enumerate(record["turns"]):
            words = words_of(text)
            who = names.setdefault(speakers[i], len(names)) if speakers else None
            if not words:
                continue
            if speakers and turns and turns[-1][0] == who:
                turns[-1][1].extend(words)
            else:
                turns.append((who if speakers else len(turns) % 2, words))
        if turns:
            yield turns


def write_corpus(path, seed=3):
    """Real-looking text with what makes word rules hard: accents both composed and not, capitals, marks, digits, scripts."""
    draw = random.Random(seed)
    pieces = ["Hello", "there", "it's", "it\u2019s", "CAF\u00c9", "cafe\u0301", "na\u00efve", "\u0130stanbul", "\u00dcber",
              "\u0395\u03bb\u03bb\u03ac\u03b4\u03b1", "\u041f\u0440\u0438\u0432\u0435\u0442", "\u4f60\u597d", "\u0645\u0631\u062d\u0628\u0627",
              "\u0928\u092e\u0938\u094d\u0924\u0947", "42", "3.14", "don't", "rock'n'roll", "\U0001f600", "(well)", "\"quoted\"", "a-b",
              "semi;colon", "\u00bfQu\u00e9?", "\u2026", "100%", "tab\tand\u00a0space", "\u1e9e", "\ufb01n", "\u2460", "x\u00b2"]
    with path.open("w", encoding="utf-8") as file:
        for number in range(400):
            turns = [" ".join(draw.choices(pieces, k=draw.randint(0, 9))) for _ in range(draw.randint(1, 8))]
            record = {"turns": turns}
            if number % 3 == 0:
                record["speakers"] = [draw.choice(["ann", "bob"]) for _ in turns]
            file.write(json.dumps(record, ensure_ascii=number % 2 == 0) + "\n")


def vocabulary_of(conversations, size):
    counts = Counter(word for turns in conversations for _, words in turns for word in words)
    ranked = sorted((-count, word) for word, count in counts.items() if len(word.encode()) <= 64)
    return SPECIAL + [word for _, word in ranked[: size - len(SPECIAL)]]


def read_shards(folder):
    """Per split, every conversation as a list of (speaker, ids); the documented schema is checked on the way."""
    h5py = imported("h5py")
    manifest = json.loads((folder / "manifest.json").read_text())
    splits = {"train": [], "validation": []}
    for entry in manifest["shards"]:
        path = folder / entry["file"]
        require(f"{zlib.crc32(path.read_bytes()):08x}" == entry["crc32"], f"the CRC-32 of {path} is not the manifest's")
        with h5py.File(path, "r", locking=False) as file:
            about = {key: value.decode() if isinstance(value, bytes) else value for key, value in file.attrs.items()}
            tokens, offsets = file["tokens"][:], file["turn_offsets"][:]
            borders, speakers = file["conversation_offsets"][:], file["speakers"][:]
            require(all(file[name].fletcher32 for name in file), f"{path}: a dataset without Fletcher-32")
            require(tokens.dtype == "uint16" and offsets.dtype == "uint64" and borders.dtype == "uint64"
                    and speakers.dtype == "uint8", f"{path}: types are not those documented")
        require(about["format"] == "duologue-shard" and about["version"] == 1 and about["split"] == entry["split"]
                and about["vocabulary_hash"] == manifest["vocabulary_hash"]
                and about["tokens_total"] == entry["tokens"] == len(tokens)
                and about["turns"] == entry["turns"] == len(speakers) == len(offsets) - 1
                and about["conversations"] == entry["conversations"] == len(borders) - 1
                and about["maximum_token"] == tokens.max() and about["unknown_tokens"] == (tokens == UNKNOWN).sum(),
                f"{path}: attributes disagree with content or manifest: {about}")
        for first, last in zip(borders[:-1], borders[1:]):
            splits[entry["split"]].append(
                [(int(speakers[i]), [int(id) for id in tokens[offsets[i] : offsets[i + 1]]]) for i in range(first, last)])
    return splits


def check_data(programs, folder):
    corpus = folder / "hard.jsonl"
    write_corpus(corpus)
    run(programs / "duologue-preprocess", corpus, "--output", folder / "hard", "--vocabulary-size", 40,
        "--shard-tokens", 2000, "--validation-percent", 10)
    conversations = list(conversations_of(corpus))
    vocabulary = vocabulary_of(conversations, 40)
    theirs = json.loads((folder / "hard" / "vocabulary.json").read_text(encoding="utf-8"))
    require(vocabulary[4:] == [word for word, _ in theirs["words"]],
            f"vocabularies differ: {vocabulary[4:]} and {theirs['words']}")
    ids = {word: id for id, word in enumerate(vocabulary)}
    expected = [[(who, [ids.get(word, UNKNOWN) for word in words]) for who, words in turns] for turns in conversations]
    splits = read_shards(folder / "hard")
    left = {name: list(split) for name, split in splits.items()}
    for number, conversation in enumerate(expected):  # both splits keep the input's order
        side = next((name for name, split in left.items() if split and split[0] == conversation), None)
        require(side, f"conversation {number} stands in no shard at its place: {conversation}")
        left[side].pop(0)
    require(not left["train"] and not left["validation"], "the shards hold more than the input")
    tokens = sum(len(ids) for split in splits.values() for turns in split for _, ids in turns)
    print(f"data: {len(expected)} conversations, {tokens} tokens in {len(list((folder / 'hard').glob('*.h5')))} shards "
          f"equal to an independent preprocessing ({len(splits['validation'])} in validation)")


def train(programs, folder):
    if not (folder / "run" / "model").exists():
        run(programs / "duologue-preprocess", "demo", "--output", folder / "demo.jsonl", "--conversations", 300)
        run(programs / "duologue-preprocess", folder / "demo.jsonl", "--output", folder / "demo")
        run(programs / "duologue", "train", f"--data.path={folder / 'demo'}", f"--output.path={folder / 'run'}",
            *MODEL_OPTIONS)
    return folder / "run"


OUR_NAMES = {  # ours -> Hugging Face's, where the rows of one are those of several
    "self_attention.qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "self_attention.out": ["self_attn.out_proj"], "self_attention_norm": ["self_attn_layer_norm"],
    "cross_attention.q": ["encoder_attn.q_proj"],
    "cross_attention.kv": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "cross_attention.out": ["encoder_attn.out_proj"], "cross_attention_norm": ["encoder_attn_layer_norm"],
    "feed_forward.fc1": ["fc1"], "feed_forward.fc2": ["fc2"], "feed_forward_norm": ["final_layer_norm"],
}


def their_names(ours):
    if ours == "embedding.weight":
        return ["model.shared.weight"]
    stack, _, layer, *part, kind = ours.split(".")
    return [f"model.{stack}.layers.{layer}.{name}.{kind}" for name in OUR_NAMES[".".join(part)]]


def check_checkpoint(programs, folder):
    h5py, np = imported("h5py"), imported("numpy")
    load_file = imported("safetensors.numpy").load_file
    run_folder = train(programs, folder)
    path = sorted((run_folder / "checkpoints").glob("step-*.h5"))[-1]
    tensors = load_file(run_folder / "model" / "model.safetensors")
    with h5py.File(path, "r", locking=False) as file:
        about = {key: value.decode() if isinstance(value, bytes) else value for key, value in file.attrs.items()}
        texts = {key: bytes(file[key][:]).decode() for key in ("config", "parameters", "vocabulary")}
        values, first, second = (file[key][:] for key in ("values", "first_moment", "second_moment"))
    require(about["format"] == "duologue checkpoint" and about["schema_version"] == 1 and about["step"] == 150,
            f"{path}: attributes {about}")
    require(json.loads(texts["vocabulary"])["hash"] == about["vocabulary_hash"], "the vocabulary's hash is another")
    require(json.loads(texts["config"])["model"]["width"] == 64, "the configuration is not the run's")
    require(values.shape == first.shape == second.shape and np.isfinite(second).all() and (second >= 0).all()
            and second.any(), f"{path}: moments that cannot be")
    for name, rows, columns, offset in json.loads(texts["parameters"]):
        ours = values[offset : offset + rows * columns]
        theirs = np.concatenate([tensors.pop(name).ravel() for name in their_names(name)])
        require(np.array_equal(ours, theirs), f"{name} differs between checkpoint and saved model")
    require(not tensors, f"the saved model has more: {list(tensors)}")
    print(f"checkpoint: {path.name} by h5py, {values.size} values equal to model.safetensors by safetensors")


def check_model(programs, folder):
    torch, transformers = imported("torch"), imported("transformers")
    model_folder = train(programs, folder) / "model"
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(model_folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    turns = [turn for line in (folder / "demo.jsonl").read_text().splitlines()[:40] for turn in json.loads(line)["turns"][:1]]
    turns += ["HELLO, there!", "What\u2019s caf\u00e9?"]
    compare_logits(programs, model_folder, model, tokenizer, turns)
    conversations = list(zip(turns[::2], turns[1::2]))
    for conversation in conversations:
        prompts = [word for turn in conversation for word in ("--prompt", turn)]
        said = run(programs / "duologue", "chat", model_folder, "--temperature", 0, *prompts)
        ours = [words_of(line.removeprefix("bot> ")) for line in said.splitlines() if line.startswith("bot> ")]
        theirs = replies_of(model, tokenizer, conversation)
        require(ours == theirs, f"to {conversation} we say {ours}, transformers says {theirs}")
    print(f"model: {type(model).__name__} by transformers, {len(conversations)} conversations of two greedy replies equal to "
          "`duologue chat`")


def replies_of(model, tokenizer, conversation):
    """What transformers says: the context is every turn so far, each closed by <eos>, which its tokenizer adds."""
    torch = imported("torch")
    context, replies = [], []
    for turn in conversation:
        context += tokenizer(turn)["input_ids"]
        with torch.no_grad():
            said = model.generate(input_ids=torch.tensor([context]), attention_mask=torch.ones(1, len(context)),
                                  do_sample=False, num_beams=1, max_new_tokens=23, suppress_tokens=[0, 1, UNKNOWN],
                                  begin_suppress_tokens=[2])[0].tolist()
        words = [id for id in said if id > UNKNOWN]
        context += [*words, 2]
        replies.append(tokenizer.convert_ids_to_tokens(words))
    return replies


def compare_logits(programs, model_folder, model, tokenizer, turns):
    np, torch = imported("numpy"), imported("torch")
    draw = random.Random(5)
    pairs = [(tokenizer(turn)["input_ids"], [draw.randrange(4, len(tokenizer)) for _ in range(8)]) for turn in turns]
    lines = "".join(f"{' '.join(map(str, source))} ; {' '.join(map(str, reply))}\n" for source, reply in pairs)
    ours = np.array([line.split() for line in run(programs / "dump_logits", model_folder, text=lines).splitlines()],
                    dtype=np.float64)
    theirs = []
    for source, reply in pairs:
        with torch.no_grad():
            theirs.append(model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[1, *reply]])).logits[0])
    theirs = torch.cat(theirs).double().numpy()
    require(ours.shape == theirs.shape, f"{ours.shape} logits against {theirs.shape}")
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    require(error < 1e-4, f"logits differ by {error:.1e} of the largest")
    print(f"model: {ours.size} logits equal to transformers' within {error:.1e} of the largest")


PARTS = {"data": check_data, "checkpoint": check_checkpoint, "model": check_model}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, default=Path("build/bin"), help="folder of duologue and the rest")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; repeated: these")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="duologue-peers-") as folder:
        for part in arguments.part or PARTS:
            PARTS[part](arguments.programs.resolve(), Path(folder))


if __name__ == "__main__":
    sys.exit(main())
