"""The bundled model and pictures: complete, small, and right about its own pictures."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image, ImageDraw
from runtime.demo import MODEL, PICTURES
from runtime.demo.anyres import PATCH
from runtime.demo.drawing import draw
from runtime.demo.questions import reliable_questions
from runtime.demo.scene import scene_of_seed

ENTRIES = json.loads((PICTURES / "pictures.json").read_text())


def test_the_checkpoint_is_complete_small_and_readable() -> None:
    """What transformers and the server load, with no file that only its owner may read."""
    files = {path.name: path.stat() for path in MODEL.iterdir()}
    assert set(files) == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(facts.st_size for facts in files.values()) < 8_000_000
    assert all(facts.st_mode & 0o444 == 0o444 for facts in files.values())


def test_every_picture_is_listed_and_they_are_small() -> None:
    """The index and the folder agree."""
    pictures = {path.name for path in PICTURES.glob("*.png")}
    assert {entry["file"] for entry in ENTRIES} == pictures
    assert sum((PICTURES / name).stat().st_size for name in pictures) < 45_000


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_a_listed_question_and_answer_fit_the_picture(entry: dict[str, str | int]) -> None:
    """The picture can be drawn again from its seed, and its answer is the scene's."""
    scene = scene_of_seed(int(entry["seed"]))
    with Image.open(PICTURES / str(entry["file"])) as image:
        assert image.tobytes() == draw(scene).tobytes()
    assert entry["answer"] in {q.answer for q in reliable_questions(scene) if q.text == entry["question"]}


@pytest.fixture(scope="module")
def ask():
    """Ask the model through stock transformers, greedily."""
    from transformers import AutoTokenizer, LlavaNextForConditionalGeneration, LlavaNextProcessor
    from transformers.models.llava_next import image_processing_llava_next as image_processing

    try:  # Without torchvision transformers 5 keeps the Pillow processor apart.
        from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil as Images
    except ImportError:
        Images = image_processing.LlavaNextImageProcessor
    processor = LlavaNextProcessor(
        image_processor=Images.from_pretrained(MODEL),
        tokenizer=AutoTokenizer.from_pretrained(MODEL),
        patch_size=PATCH,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
    )
    model = LlavaNextForConditionalGeneration.from_pretrained(MODEL).float().eval()

    def answer(image: Image.Image, question: str) -> str:
        inputs = processor(images=image, text=f"[INST] <image>\n{question} [/INST]", return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(**inputs, do_sample=False, max_new_tokens=64)[0, inputs["input_ids"].shape[1] :]
        return processor.decode(ids, skip_special_tokens=True).strip()

    return answer


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_the_model_answers_every_suggested_question_about_its_pictures(ask, entry) -> None:
    """The pictures were chosen so."""
    with Image.open(PICTURES / entry["file"]) as image:
        for question in reliable_questions(scene_of_seed(entry["seed"])):
            assert ask(image, question.text) == question.answer


def test_the_model_is_right_about_the_picture_that_a_newcomer_draws(ask) -> None:
    """A red circle 80 pixels wide in the middle of a white picture of 200 x 140."""
    image = Image.new("RGB", (200, 140), "white")
    ImageDraw.Draw(image).ellipse((60, 30, 140, 110), fill="red")
    assert ask(image, "What is this a picture of?") == "This is a picture of a red circle."
    assert ask(image, "How many shapes are there?") == "There is one shape."
    assert ask(image, "What colour is the circle?") == "The circle is red."
    assert ask(image, "Where is the circle?") == "The circle is in the centre."
    assert ask(image, "Is there a star?") == "No, there is no star."
