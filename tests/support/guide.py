"""The command of TGI-Gaudi's guide."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from runtime import demo

FLAGS = [
    *("--max-input-tokens", "4096", "--max-batch-prefill-tokens", "16384"),
    *("--max-total-tokens", "8192", "--max-batch-total-tokens", "32768"),
]
VARIABLES = {
    "HABANA_VISIBLE_DEVICES": "all",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    "TEXT_GENERATION_SERVER_IGNORE_EOS_TOKEN": "true",
    "PT_HPU_ENABLE_LAZY_COLLECTIVES": "true",
    "HF_HUB_ENABLE_HF_TRANSFER": "1",
    "ENABLE_HPU_GRAPH": "true",
    "LIMIT_HPU_GRAPH": "true",
    "USE_FLASH_ATTENTION": "true",
    "FLASH_ATTENTION_RECOMPUTE": "true",
    "PREFILL_BATCH_BUCKET_SIZE": "1",
    "BATCH_BUCKET_SIZE": "1",
}


def long_model(folder: Path) -> str:
    """Make the demo model with as many positions as LLaVA-NeXT on Mistral has; return where it is."""
    made = folder / "long"
    shutil.copytree(demo.MODEL, made)
    config = json.loads((made / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 32768
    (made / "config.json").write_text(json.dumps(config))
    return str(made)
