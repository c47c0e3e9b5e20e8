"""The bundled pictures, with a question and the bundled model's right answer to each."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Final

from runtime import demo


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to ask about."""

    file: str
    question: str
    answer: str

    @property
    def data_uri(self) -> str:
        """The picture itself, as a URL."""
        return "data:image/png;base64," + base64.b64encode((demo.PICTURES / self.file).read_bytes()).decode()

    @property
    def prompt(self) -> str:
        """The question about it in the form that the model was trained on, the picture in TGI's markdown."""
        return f"[INST] ![]({self.data_uri})\n{self.question} [/INST]"


PICTURES: Final = [
    Picture(each["file"], each["question"], each["answer"])
    for each in json.loads((demo.PICTURES / "pictures.json").read_text())
]
