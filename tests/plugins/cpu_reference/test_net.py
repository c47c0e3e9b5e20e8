"""Loading the oracle's network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from runtime.model import read_model
from runtime_cpu_reference.net import load_net
from safetensors.torch import load_file, save_file
from support.checkpoints import IMAGE_TOKEN, Checkpoint, write_checkpoint


def test_weights_are_widened_unchanged(tmp_path: Path) -> None:
    """bfloat16 on disk is the same number in fp32; attention is the plain one."""
    stored = load_file(write_checkpoint(tmp_path, Checkpoint()) / "model.safetensors")
    net = load_net(read_model(tmp_path))
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert torch.equal(net.lm_head.weight, stored["language_model.lm_head.weight"].float())
    assert not net.training
    parts = (net.config, net.config.text_config, net.config.vision_config)
    assert {part._attn_implementation for part in parts} == {"eager"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("image_newline"), "1 missing_keys.*image_newline"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), "1 unexpected_keys.*extra"),
        (lambda tensors: tensors.update(image_newline=torch.zeros(2)), "1 mismatched_keys.*image_newline"),
    ],
    ids=["missing", "left over", "another shape"],
)
def test_weights_must_fit_the_config(tmp_path: Path, change: Any, complaint: str) -> None:
    """transformers would go on with random numbers."""
    file = write_checkpoint(tmp_path, Checkpoint()) / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=complaint):
        load_net(read_model(tmp_path))


def test_loading_is_silent_and_leaves_settings_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No bars and notices of transformers on the operator's terminal, and no lasting change for other users of it."""
    log: Any = transformers.utils.logging
    model = read_model(write_checkpoint(tmp_path, Checkpoint()))
    before = log.get_verbosity(), log.is_progress_bar_enabled()
    load_net(model)
    assert capfd.readouterr() == ("", "")
    assert (log.get_verbosity(), log.is_progress_bar_enabled()) == before


def test_upstream_has_no_answer_for_the_full_strategy(tmp_path: Path) -> None:
    """The reason why `read_model` refuses it: when this fails, transformers has learnt it."""
    write_checkpoint(tmp_path, Checkpoint(strategy="full"))
    net: Any = transformers.LlavaNextForConditionalGeneration.from_pretrained(tmp_path).float()
    pixels, sizes = torch.zeros(3, 3, 28, 28), torch.tensor([[28, 56]])
    with pytest.raises(RuntimeError, match="expanded size"):
        net(input_ids=torch.tensor([[1, IMAGE_TOKEN]]), pixel_values=pixels, image_sizes=sizes)
