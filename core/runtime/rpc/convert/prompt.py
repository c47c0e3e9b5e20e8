"""What is told of prompts: their tokens, and what they cost."""

from __future__ import annotations

from runtime.cost import ImageCost, PromptCost
from runtime.runtime import PromptToken, Tokenization
from runtime.v1 import generation_pb2, messages_pb2


def tokenization_from(message: generation_pb2.TokenizeResponse) -> Tokenization:
    """Read the tokens of a prompt."""
    return Tokenization(tuple(map(_token_from, message.tokens)), cost_from(message.cost))


def tokenization_message(tokenization: Tokenization) -> generation_pb2.TokenizeResponse:
    """Make the message of a prompt's tokens."""
    return generation_pb2.TokenizeResponse(
        tokens=map(_token_message, tokenization.tokens), cost=cost_message(tokenization.cost)
    )


def cost_from(message: messages_pb2.PromptCost) -> PromptCost:
    """Read a cost."""
    return PromptCost(
        images=tuple(ImageCost(image.tiles, image.tokens) for image in message.images),
        cached_tokens=message.cached_tokens,
        bucket=message.bucket if message.HasField("bucket") else None,
        padding=message.padding if message.HasField("padding") else None,
    )


def cost_message(cost: PromptCost) -> messages_pb2.PromptCost:
    """Make the message of a cost."""
    return messages_pb2.PromptCost(
        images=[messages_pb2.ImageCost(tiles=image.tiles, tokens=image.tokens) for image in cost.images],
        cached_tokens=cost.cached_tokens,
        bucket=cost.bucket,
        padding=cost.padding,
    )


def _token_from(message: generation_pb2.PromptToken) -> PromptToken:
    return PromptToken(
        id=message.id,
        text=message.text,
        special=message.special,
        start=message.start if message.HasField("start") else None,
        stop=message.stop if message.HasField("stop") else None,
    )


def _token_message(token: PromptToken) -> generation_pb2.PromptToken:
    return generation_pb2.PromptToken(
        id=token.id, text=token.text, special=token.special, start=token.start, stop=token.stop
    )
