"""Knobs: what a request may hold."""

from __future__ import annotations

from typing import Final

from runtime.knobs.knob import BOTH, GATEWAY, WORKER, Knob

REQUESTS: Final = (
    Knob("payload_limit", "PAYLOAD_LIMIT", int, 16_000_000, "Size of one request, bytes.", BOTH),
    Knob("max_best_of", "MAX_BEST_OF", int, 2, "Replies of which `best_of` chooses.", GATEWAY),
    Knob("max_stop_sequences", "MAX_STOP_SEQUENCES", int, 4, "Stop texts of one request.", BOTH, lowest=0),
    Knob("max_top_n_tokens", "MAX_TOP_N_TOKENS", int, 5, "Candidates told with each token.", GATEWAY, lowest=0),
    Knob(
        "max_client_batch_size",
        "MAX_CLIENT_BATCH_SIZE",
        int,
        4,
        "Replies of one request: its prompts times `n`.",
        GATEWAY,
    ),
    Knob("max_images", "MAX_IMAGES", int, 16, "Pictures of one request.", WORKER, lowest=0),
    Knob("max_image_bytes", "MAX_IMAGE_BYTES", int, 20 * 2**20, "Size of one encoded picture, bytes.", WORKER),
    Knob("max_image_pixels", "MAX_IMAGE_PIXELS", int, 50_000_000, "Pixels of one picture, before decoding.", WORKER),
    Knob(
        "image_url_policy",
        "IMAGE_URL_POLICY",
        str,
        "public",
        "From where pictures are fetched: `public`: public addresses, and hosts of --image-url-allow; `listed`: only "
        "those; `none`.",
        WORKER,
        choices=("public", "listed", "none"),
    ),
    Knob(
        "image_url_allow",
        "IMAGE_URL_ALLOW",
        str,
        (),
        "HOST or HOST:PORT from which pictures are fetched even if it is private; a proxy of the environment is used "
        "for these only. May be repeated; commas separate.",
        WORKER,
        repeatable=True,
    ),
    Knob(
        "ignore_eos",
        "TEXT_GENERATION_SERVER_IGNORE_EOS_TOKEN",
        bool,
        False,
        "Never end a reply at the end-of-sequence token, as benchmarks want.",
        WORKER,
    ),
    Knob(
        "skip_tokenizer",
        "SKIP_TOKENIZER_IN_TGI",
        bool,
        False,
        "Take prompts and give replies as token ids with commas between them.",
        WORKER,
    ),
)
