"""A model on the Hugging Face hub and its copy in the local cache: the only module that knows `huggingface_hub`.

The library takes its settings from the environment. Most of them (HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME,
HF_HUB_ENABLE_HF_TRANSFER) it reads once, when it is imported, so import this module only to reach the hub; HF_TOKEN it
reads for every request, and the proxy variables for its first.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars, validate_repo_id

from runtime.errors import ModelRefused
from runtime.model.section import CACHED_MODEL

VOLUME: Final = Path("/data")
"""Where the containers of TGI mount their cache."""

ASK_SECONDS: Final = 10.0
"""How long the hub may take to answer."""
PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each new try of a download that broke off."""

CHATTY: Final = ("huggingface_hub", "httpx", "httpx2")
"""Loggers of the library and of its HTTP clients, which write addresses; what matters we tell ourselves."""

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
REVISION: Final = re.compile(r"(?!.*\.\.)\w[\w./-]{0,199}", re.ASCII)

log = logging.getLogger(__name__)


def cache_folder(chosen: str | None) -> Path:
    """Return where fetched models are kept: as chosen, else as the library's variables say, else /data or its default.

    /data counts when it can be written and none of HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE and HF_HOME is set.
    """
    if chosen:
        return Path(chosen).expanduser()
    told = any(os.environ.get(name) for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"))
    if not told and VOLUME.is_dir() and os.access(VOLUME, os.W_OK):
        return VOLUME
    return Path(constants.HF_HUB_CACHE)


@dataclass(frozen=True, slots=True)
class Listing:
    """What the hub says of a revision."""

    commit: str
    sizes: Mapping[str, int]
    """Bytes of every file, by its name."""


class HubModel:
    """One revision of a model on the hub. Every method raises ModelRefused, one line without library text."""

    def __init__(self, model_id: str, revision: str, cache: Path) -> None:
        """`revision` is a branch, a tag or a commit."""
        try:
            validate_repo_id(model_id)
            model_id.encode("ascii")
        except ValueError:
            raise ModelRefused(
                f"Model {model_id[:100]!a} is neither a folder nor the id of a model on the hub, like ORG/NAME."
            ) from None
        if not REVISION.fullmatch(revision):
            raise ModelRefused(f"Revision {revision[:100]!a} of model {model_id} is no branch, tag or commit.")
        self.model_id = model_id
        self.revision = revision
        self.cache = cache
        self._home = cache / (CACHED_MODEL + model_id.replace("/", "--"))
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
            disable_progress_bars()

    @property
    def offline(self) -> bool:
        """Whether HF_HUB_OFFLINE keeps us from asking the hub."""
        return constants.HF_HUB_OFFLINE

    def listing(self) -> Listing:
        """Ask the hub which commit the revision is, and for the files in it."""
        try:
            info = HfApi().model_info(self.model_id, revision=self.revision, files_metadata=True, timeout=ASK_SECONDS)
            sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        except Exception as error:  # the library lets those of its HTTP client through
            raise self._refusal(error) from None
        if info.sha is None or not COMMIT.fullmatch(info.sha):
            raise ModelRefused(f"Model {self.model_id} cannot be fetched: what HF_ENDPOINT names is not a hub.")
        return Listing(info.sha, sizes)

    def folder(self, commit: str) -> Path:
        """Return where the files of a commit are, or will be."""
        return self._home / "snapshots" / commit

    def cached(self) -> Path:
        """Return the folder of the commit that the revision was when it was last fetched; asks nobody."""
        try:
            config = hf_hub_download(
                self.model_id, "config.json", revision=self.revision, cache_dir=self.cache, local_files_only=True
            )
        except (EntryNotFoundError, OSError):
            raise ModelRefused(
                f"Model {self.model_id}, revision {self.revision}, is not in the cache and HF_HUB_OFFLINE is set; "
                f"unset it, or give the folder of a downloaded model."
            ) from None
        return Path(config).parent

    def download(self, name: str, commit: str) -> None:
        """Fetch a file into the cache, unless it is there; a download that breaks off is resumed.

        One file at a time: since version 1, huggingface_hub drops what it has of a file when the process is killed.
        """
        pauses = iter(PAUSES)
        while True:
            try:
                hf_hub_download(self.model_id, name, revision=commit, cache_dir=self.cache)
            except Exception as error:  # the library lets those of its HTTP client through
                pause = next(pauses, None) if _may_pass(error) else None
                if pause is None:
                    raise self._refusal(error, name) from None
                log.warning("the download of %s broke off; trying again in %g s", name, pause)
                time.sleep(pause)
            else:
                return

    def in_flight(self) -> int:
        """Return how many bytes have come of the file being downloaded."""
        newest, arrived = 0.0, 0
        for part in (self._home / "blobs").glob("*.incomplete"):
            with suppress(OSError):  # it has just come to its end
                facts = part.stat()
                if facts.st_mtime > newest:
                    # Not its size: the parts of a file may be written out of order.
                    newest, arrived = facts.st_mtime, facts.st_blocks * 512
        return arrived

    def remember(self, commit: str) -> None:
        """Note that the revision is this commit, for a start without the hub; call when the whole model is there.

        The library does so too, but before the files have come.
        Source: "Understand caching" in the documentation of huggingface_hub.
        """
        if self.revision == commit:
            return
        ref = self._home / "refs" / self.revision
        with suppress(OSError):  # a cache that can only be read
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(commit)

    def _refusal(self, error: Exception, name: str = "a file") -> ModelRefused:
        model, status = f"Model {self.model_id}", _status(error)
        if isinstance(error, GatedRepoError):
            return ModelRefused(f"{model} is gated: accept its terms on the hub and set HF_TOKEN to a token of yours.")
        if isinstance(error, RevisionNotFoundError):
            return ModelRefused(f"{model} has no revision {self.revision} on the hub; give a branch, tag or commit.")
        if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
            return ModelRefused(
                f"{model} is neither a folder here nor a public model on the hub; check the id, or set HF_TOKEN to a "
                f"token that may read it."
            )
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return ModelRefused(f"{model}: {name} is missing on the hub; give another --revision.")
        if status:
            return ModelRefused(f"{model} cannot be fetched: the hub answers with status {status}; try again later.")
        trouble = getattr(error, "errno", None)
        if trouble in (errno.ENOSPC, errno.EDQUOT):
            return ModelRefused(f"{model} cannot be fetched: the disk of the cache is full; free some space.")
        if trouble is not None:
            return ModelRefused(
                f"{model} cannot be fetched: the cache cannot be written; set --huggingface-hub-cache to a folder "
                f"that can."
            )
        log.debug("the hub failed", exc_info=error)
        return ModelRefused(
            f"{model} cannot be fetched: the hub does not answer; check the network, HF_ENDPOINT and the proxy "
            f"variables, or give the folder of a downloaded model."
        )


def _status(error: Exception) -> int:
    """Return the status the hub answered with, 0 when it did not."""
    response = getattr(error, "response", None) if isinstance(error, HfHubHTTPError) else None
    return 0 if response is None else int(response.status_code)


def _may_pass(error: Exception) -> bool:
    """Tell whether it is worth to try again: a connection that broke, or a hub that is busy."""
    if isinstance(error, HfHubHTTPError | EntryNotFoundError):
        return _status(error) == 429 or _status(error) >= 500
    return getattr(error, "errno", None) is None
