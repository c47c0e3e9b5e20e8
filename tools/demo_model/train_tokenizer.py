"""Step 1: train the tokenizer on the synthetic text and write its files, in the layout of Llama and Mistral."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from pathlib import Path
from random import Random

import click
from questions import questions_about
from runtime.demo.scene import sample_scene
from small_talk import ODD_WORDS, small_talk
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 800
"""Tokens before `<image>` and `<pad>`, which come last as in llava-v1.6-mistral."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}"
    "{{ ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{{ message['content'][0]['text'] }}{% endif %}"
    "{{ eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported.') }}{% endif %}{% endfor %}"
)

SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "image_token": "<image>",
}

# `TokenizersBackend`, which transformers 5 would write, is unknown to 4.55; without model_input_names 4.55 makes
# token_type_ids, which generate() refuses.
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "extra_special_tokens": {"image_token": "<image>"},
    "image_token": "<image>",
    "padding_side": "left",
    "model_max_length": 2048,
    "model_input_names": ["input_ids", "attention_mask"],
    "clean_up_tokenization_spaces": False,
    "processor_class": "LlavaNextProcessor",
}


def corpus(scenes: int = 6000) -> Iterator[str]:
    """Yield every text the model is trained on, and the ways a question is joined to what precedes it."""
    rng = Random(7)
    for _ in range(scenes):
        for question in questions_about(sample_scene(rng), rng):
            yield f"[INST] {question.text} [/INST] {question.answer}.[INST] \n{question.text}"
        turn = small_talk(rng)
        yield f"[INST] {turn.text} [/INST] {turn.answer}"
    yield from [" ".join(ODD_WORDS)] * 20


def train_tokenizer() -> Tokenizer:
    """Return a BPE tokenizer with byte fallback in which every common word and every digit is one token."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=True),
            pre_tokenizers.Split(Regex(r"[.,!?:;\n]|[0-9]"), "isolated"),
        ]
    )
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=3,
        special_tokens=special,
        initial_alphabet=[*string.printable[:95], "▁"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return _as_llama(tokenizer)


def _as_llama(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer as Llama's files have it."""
    # Bytes are plain vocabulary; only <unk>, <s> and </s> are added tokens.
    facts = json.loads(tokenizer.to_str())
    facts["added_tokens"] = facts["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(facts))
    # What LlamaTokenizer of transformers 5 builds for itself: ids do not depend on the class that loads the file.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<image>", "<pad>")])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, checkpoint: Path) -> None:
    """Write tokenizer.json and the small files beside it; transformers 4.55 and 5 both read them."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=2) + "\n")
    (checkpoint / "special_tokens_map.json").write_text(json.dumps(SPECIAL_TOKENS, indent=2) + "\n")
    (checkpoint / "chat_template.jinja").write_text(CHAT_TEMPLATE)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
def main(checkpoint: Path) -> None:
    """Write the tokenizer's files into the folder CHECKPOINT."""
    save_tokenizer(train_tokenizer(), checkpoint)


if __name__ == "__main__":
    main()
