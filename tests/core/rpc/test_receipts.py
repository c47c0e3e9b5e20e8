"""A receipt over gRPC: a document in JSON, the same in the gateway as in the worker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from runtime.errors import InvalidRequest
from runtime.receipt import Receipt
from runtime.rpc.convert import delta_from, delta_message, request_from, request_message
from runtime.v1 import messages_pb2
from support.receipts import RECEIPT
from support.scripted import last, token
from support.serving import tokens_request


def test_asked_for() -> None:
    """Off unless asked for."""
    asked = replace(tokens_request([1]), receipt=True)
    assert request_from(request_message(asked)).receipt
    assert not request_from(messages_pb2.Request(inputs="a")).receipt


def test_told() -> None:
    """With the last token; the client saves the text for `runtime replay`."""
    delta = last("one", token("one"))
    assert delta.completion is not None
    delta = replace(delta, completion=replace(delta.completion, receipt=RECEIPT))
    message = delta_message(delta)
    assert Receipt.of_json(message.generated_text.receipt.json) == RECEIPT
    assert delta_from(message) == delta
    assert not delta_message(last("one", token("one"))).generated_text.HasField("receipt")


def test_damaged_on_the_way() -> None:
    """It is refused by its digest."""
    text = messages_pb2.GeneratedText(receipt=messages_pb2.Receipt(json=RECEIPT.json().replace("500", "501")))
    with pytest.raises(InvalidRequest, match="not as it was written"):
        delta_from(messages_pb2.Delta(generated_text=text))
