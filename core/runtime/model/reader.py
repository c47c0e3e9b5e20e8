"""Read a model folder into a `ModelSpec`: an allow-list over its configs, before any weight is read or fetched.

Which activations and scalings of positions can be computed is the backend's business.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from runtime.backend import ModelSpec
from runtime.errors import ModelRefused
from runtime.model.images import read_images
from runtime.model.layers import MAX_WIDTH, read_decoder, read_vision
from runtime.model.section import MAX_LAYERS, Section, folder_name, read_section
from runtime.model.weights import digest, find_weights

VISION: Final = "LlavaNextForConditionalGeneration"
TEXT: Final = {"MistralForCausalLM": "mistral", "LlamaForCausalLM": "llama"}
"""Text architectures and their model types, which may also be the text part of a vision model."""

MAX_VOCABULARY: Final = 2**22
MAX_POSITIONS: Final = 2**24

log = logging.getLogger(__name__)


def read_model(path: Path) -> ModelSpec:
    """Read and check a folder in Hugging Face format.

    Raises ModelRefused, with one line for the operator, when the folder is missing or broken or its architecture
    is not supported.
    """
    return with_weights(read_configs(path))


def read_configs(path: Path) -> ModelSpec:
    """Read and check all but the weights, which need not be there yet; the digest stays empty.

    Raises ModelRefused like `read_model`.
    """
    name = folder_name(path)
    with _readable(name):
        if not path.is_dir():
            raise ModelRefused(f"Model {name} is not a folder; give the path of a downloaded model.")
        return _read(path, name)


def with_weights(model: ModelSpec) -> ModelSpec:
    """Check that the weights are there and whole, and fill in the digest; raises ModelRefused when they are not."""
    with _readable(folder_name(model.path)):
        return replace(model, digest=digest(model.path, find_weights(model.path)))


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError:
        raise ModelRefused(f"Model {name} cannot be read; check that the server may read its files.") from None


def _read(path: Path, name: str) -> ModelSpec:
    config = read_section(path, "config.json")
    if config is None:
        raise ModelRefused(f"Model {name} has no config.json; give the path of a downloaded model.")
    architecture = _architecture(config)
    if config.has("quantization_config"):
        raise ModelRefused(
            f"Model {name}: config.json: quantization_config is set; quantized weights are not supported."
        )
    if architecture == VISION:
        config = config.with_defaults("llava_next")
        text = _text_part(config)
    else:
        text = config.with_defaults(TEXT[architecture])
    heads = text.integer("num_attention_heads", 1, MAX_WIDTH)
    hidden = _hidden(text, heads)
    vocabulary = text.integer("vocab_size", 1, MAX_VOCABULARY)
    return ModelSpec(
        path=path,
        architecture=architecture,
        dtype=_dtype(config, text),
        layers=text.integer("num_hidden_layers", 1, MAX_LAYERS),
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(text, heads),
        vocabulary=vocabulary,
        max_positions=_max_positions(text),
        eos_ids=_eos_ids(path, config, text, vocabulary),
        image_token_id=_image_token_id(config, vocabulary) if architecture == VISION else None,
        images=read_images(path, config) if architecture == VISION else None,
        decoder=read_decoder(config, text, hidden, heads),
        vision=read_vision(config) if architecture == VISION else None,
        digest="",
    )


def _architecture(config: Section) -> str:
    """Return the class name in the config, which must be on the list and agree with the model type."""
    supported = (VISION, *TEXT)
    names = config.values.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise config.refusal("architectures", f"a list of one name, one of {', '.join(supported)}")
    architecture = names[0]
    if architecture not in supported:
        raise ModelRefused(
            f"Model {config.model}: {config.file}: architecture {architecture[:60]!a} is not supported; "
            f"supported are {', '.join(supported)}."
        )
    config.choice("model_type", ("llava_next" if architecture == VISION else TEXT[architecture],))
    return architecture


def _text_part(config: Section) -> Section:
    text = config.section("text_config")
    return text.with_defaults(text.choice("model_type", tuple(TEXT.values())))


def _dtype(config: Section, text: Section) -> str:
    """Return the dtype: transformers 5 calls the key `dtype`, 4 `torch_dtype`."""
    found = [(part, key) for part in (config, text) for key in ("dtype", "torch_dtype") if part.has(key)]
    part, key = found[0] if found else (config, "dtype")
    return part.choice(key, ("bfloat16", "float16", "float32"))


def _hidden(text: Section, heads: int) -> int:
    hidden = text.integer("hidden_size", 1, MAX_WIDTH)
    if text.integer_or_none("head_dim", 1, MAX_WIDTH) is None and hidden % heads:
        raise text.refusal("hidden_size", f"a multiple of num_attention_heads, which is {heads}")
    return hidden


def _kv_heads(text: Section, heads: int) -> int:
    kv_heads = text.integer_or_none("num_key_value_heads", 1, heads) or heads
    if heads % kv_heads:
        raise text.refusal("num_key_value_heads", f"a divisor of num_attention_heads, which is {heads}")
    return kv_heads


def _max_positions(text: Section) -> int:
    """Return the longest context, capped where sliding-window attention would begin to differ from full attention."""
    positions = text.integer("max_position_embeddings", 1, MAX_POSITIONS)
    window = text.integer_or_none("sliding_window", 1, MAX_POSITIONS)
    if window is None or window >= positions:
        return positions
    log.warning(
        "Model %s: %s: sliding_window %d is smaller than max_position_embeddings %d; contexts are capped at the "
        "window because sliding attention is not supported.",
        text.model,
        text.file,
        window,
        positions,
    )
    return window


def _eos_ids(path: Path, config: Section, text: Section, vocabulary: int) -> frozenset[int]:
    """Return the end tokens: the generation config goes first; none at all when every file says null."""
    generation = read_section(path, "generation_config.json")
    for part in (generation, config, text):
        if part is not None and part.has("eos_token_id"):
            return frozenset(part.integers("eos_token_id", 0, vocabulary - 1))
    return frozenset()


def _image_token_id(config: Section, vocabulary: int) -> int:
    """Return the placeholder's id: transformers 4 writes `image_token_index`, 5 may write `image_token_id`."""
    key = "image_token_id" if config.has("image_token_id") else "image_token_index"
    return config.integer(key, 0, vocabulary - 1)
