"""Conversations to prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.errors import InvalidRequest, ModelRefused, TemplateError
from runtime.prompt.chat import ChatTemplate
from runtime.prompt.tokenizer import Tokenizer
from runtime.runtime import ImagePart, ImageUrlPart, Message, Part, TextPart, TokensPart

PICTURE, OTHER = ImagePart(b"picture"), ImageUrlPart("data:other")


def turn(*parts: Part | str, role: str = "user") -> Message:
    return Message(role, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def render(source: str, *messages: Message, image_token: str | None = None) -> str:
    """The text of a template that shows no picture."""
    parts = ChatTemplate(source, "<s>", "</s>").render(messages, image_token)
    return "".join(part.text for part in parts if isinstance(part, TextPart))


@pytest.fixture(scope="module")
def chat(folder: Path, tokenizer: Tokenizer) -> ChatTemplate:
    """The demo model's template."""
    loaded = ChatTemplate.load(folder, tokenizer)
    assert loaded is not None
    return loaded


def test_a_conversation_by_hand(chat: ChatTemplate) -> None:
    """Pictures first, then the text; replies end with the end token."""
    messages = [turn("What is ", PICTURE, "this?"), turn("a circle", role="assistant"), turn("and", OTHER, "this?")]
    assert chat.render(messages, "<image>") == (
        TextPart("[INST] "),
        PICTURE,
        TextPart("\nWhat is this? [/INST] a circle</s>[INST] "),
        OTHER,
        TextPart("\nandthis? [/INST]"),
    )


def test_text_equals_transformers(chat: ChatTemplate, processor: Any) -> None:
    """The same conversation through its own template engine."""
    messages = [turn("Hello"), turn("Hi.", role="assistant"), turn(PICTURE, "What?")]
    theirs = processor.apply_chat_template(
        [
            {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Hi."}]},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
        ],
        add_generation_prompt=True,
    )
    parts = chat.render(messages, "<image>")
    assert "".join(part.text if isinstance(part, TextPart) else "<image>" for part in parts) == theirs


PIECES = st.lists(st.sampled_from(["<image>", "<ima", "ge>", "<", "image>", "<i", "mage>", "x", "", " "]), max_size=4)


@given(st.lists(PIECES.map("".join) | st.just(None), min_size=1, max_size=6))
@settings(deadline=None)
def test_typed_placeholders_stay_text(chat: ChatTemplate, contents: list[str | None]) -> None:
    """However a user cuts them up between parts, pictures are where the template put them and no text is lost."""
    message = turn(*(PICTURE if content is None else content for content in contents))
    parts = chat.render([message], "<image>")
    pictures = contents.count(None)
    assert [part for part in parts if not isinstance(part, TextPart)] == [PICTURE] * pictures
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    assert text == "[INST] " + "\n" * pictures + "".join(content or "" for content in contents) + " [/INST]"


def test_a_role_cannot_place_pictures() -> None:
    """Templates write roles into the prompt, too."""
    source = "{% for m in messages %}{{ m.role }}:{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateError, match="hold 1 pictures and the model's chat template places 0"):
        ChatTemplate(source, "", "").render([turn(PICTURE, role="<image>")], "<image>")
    assert render(source, turn("a", role="<image>"), image_token="<image>") == "<image>:a"


def test_a_text_model_gets_strings() -> None:
    """Its template need not know of lists, and nothing in it is a picture."""
    source = "{{ bos_token }}{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}{{ eos_token }}"
    assert render(source, turn("a<image>", "b"), turn(role="x")) == "<s>usera<image>bx</s>"


def test_what_templates_of_the_field_use() -> None:
    """Block trimming, generation marks, break, JSON without escapes, the prompt for a reply."""
    assert render("{% if true %}\n  {% if true %}\nx\n{% endif %}\n{% endif %}") == "x\n"
    assert render("{% generation %}{{ bos_token }}{% endgeneration %}!") == "<s>!"
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"
    assert render("{{ {'a': \"<é'>\"} | tojson }}") == '{"a": "<é\'>"}'
    assert render("{% if add_generation_prompt %}go{% endif %}{% if tools is defined or tools %}no{% endif %}") == "go"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[5].content }}",
        "{{ unknown.name }}",
        "{{ 1 / 0 }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ messages.append(1) }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__ }}{{ messages.x.y }}",
        "{% include 'a' %}",
        "{{ messages | tojson(indent={}) }}",
    ],
)
def test_failing_templates_are_typed(source: str) -> None:
    """Whatever a template tries, the user gets one clear sentence and no words of the library."""
    with pytest.raises(TemplateError, match=r"the model's chat template (fails on|writes more)") as caught:
        render(source, turn("a"))
    assert caught.value.__cause__ is None


def test_the_templates_own_message_is_for_the_user(chat: ChatTemplate) -> None:
    """It is passed on, at a bounded length and with what the user wrote as it was written."""
    with pytest.raises(TemplateError, match=r"says: Only user and assistant roles are supported\.$"):
        chat.render([turn("a", role="system")], "<image>")
    with pytest.raises(TemplateError) as caught:
        render("{{ raise_exception(messages[0].role * 999) }}", turn(role="<image>"), image_token="<image>")
    assert "says: <image><image>" in caught.value.message
    assert len(caught.value.message) < 600


def test_token_ids_are_no_content(chat: ChatTemplate) -> None:
    """A template cannot place them."""
    with pytest.raises(InvalidRequest, match="token ids"):
        chat.render([turn(TokensPart((1,)))], "<image>")


def load(folder: Path, tokenizer: Tokenizer, **files: Any) -> str | None:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text)
    chat = ChatTemplate.load(folder, tokenizer)
    return None if chat is None else "".join(part.text for part in chat.render([], None))  # type: ignore[union-attr]


def test_where_templates_are_found(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Each place wins over those tried before it here; a folder without any has none."""
    assert load(tmp_path, tokenizer, tokenizer_config__json={"chat_template": None}) is None
    assert load(tmp_path, tokenizer, processor_config__json={"chat_template": "processor"}) == "processor"
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "named"}]
    assert load(tmp_path, tokenizer, tokenizer_config__json={"chat_template": named}) == "named"
    assert load(tmp_path, tokenizer, tokenizer_config__json={"chat_template": "config"}) == "config"
    assert load(tmp_path, tokenizer, chat_template__json={"chat_template": "own {{ bos_token }}"}) == "own <s>"
    assert load(tmp_path, tokenizer, chat_template__jinja="jinja") == "jinja"


@pytest.mark.parametrize(
    "files",
    [{"chat_template__jinja": "{% if %}"}, {"chat_template__jinja": "{{" + "(" * 9999}, {"chat_template__json": "[1]"}],
)
def test_broken_templates_are_refused_at_start(tmp_path: Path, tokenizer: Tokenizer, files: dict[str, str]) -> None:
    """The operator learns it before the first user."""
    with pytest.raises(ModelRefused, match=r"template"):
        load(tmp_path, tokenizer, **files)
