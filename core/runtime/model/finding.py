"""From what the operator calls a model to its files on this machine, fetched from the hub when they are not there."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.filesize import decimal

from runtime.backend import ModelSpec
from runtime.errors import ModelRefused
from runtime.model.progress import told_progress
from runtime.model.reader import read_configs, read_model, with_weights
from runtime.model.weights import DIGESTED_CONFIGS, INDEX, weight_names

if TYPE_CHECKING:
    from runtime.model.hub import HubModel, Listing

BRANCH: Final = "main"
"""The revision when none is given."""

HF_TRANSFER: Final = "HF_HUB_ENABLE_HF_TRANSFER"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model on this machine."""

    spec: ModelSpec
    commit: str | None
    """Of the hub's repository; None for a folder of the operator's own."""


def find_model(model_id: str, revision: str | None, cache: str | None) -> FoundModel:
    """Return the model in the folder `model_id`, else the one the hub has under that id, fetched if need be.

    What begins with a slash, a dot or a tilde is a folder. Blocks for as long as the download takes.
    Raises ModelRefused.
    """
    if _is_folder(model_id):
        if revision is not None:
            log.warning("--revision %s has no effect: %s is a folder", revision, model_id)
        return FoundModel(read_model(Path(model_id)), None)
    return fetch_model(model_id, revision or BRANCH, cache)


def find_configs(model_id: str, revision: str | None, cache: str | None) -> ModelSpec:
    """Return what the configs say, for whoever needs no weights: none is read or fetched, and the digest stays empty.

    `model_id` is looked for as `find_model` does. Raises ModelRefused.
    """
    if _is_folder(model_id):
        return read_configs(Path(model_id))
    _settle_hf_transfer()
    from runtime.model.hub import HubModel, cache_folder

    model = HubModel(model_id, revision or BRANCH, cache_folder(cache))
    if model.offline:
        return read_configs(model.cached())
    try:
        listing = model.listing()
    except ModelRefused:
        with suppress(ModelRefused):
            return read_configs(model.cached())
        raise
    return _fetch_configs(model, listing)


def fetch_model(model_id: str, revision: str, cache: str | None) -> FoundModel:
    """Fetch what is missing in the cache, configs first, so that a model that cannot be served costs no download.

    Without the hub, the commit that the revision was when it was last fetched is served.
    Raises ModelRefused.
    """
    _settle_hf_transfer()
    from runtime.model.hub import HubModel, cache_folder

    model = HubModel(model_id, revision, cache_folder(cache))
    if model.offline:
        return _cached(model)
    try:
        listing = model.listing()
    except ModelRefused as problem:
        try:
            found = _cached(model)
        except ModelRefused:
            raise problem from None
        log.warning("%s Serving commit %s from the cache.", problem.message, found.commit)
        return found
    spec = _fetch_configs(model, listing)
    folder = model.folder(listing.commit)
    _fetch_weights(model, listing.commit, weight_names(folder, listing.sizes), listing.sizes)
    model.remember(listing.commit)
    return FoundModel(with_weights(spec), listing.commit)


def _is_folder(model_id: str) -> bool:
    return model_id.startswith(("/", ".", "~")) or os.path.isdir(model_id)  # noqa: PTH112  # Path fails on long names


def _fetch_configs(model: HubModel, listing: Listing) -> ModelSpec:
    for name in (*DIGESTED_CONFIGS, INDEX):
        if name in listing.sizes:
            model.download(name, listing.commit)
    return read_configs(model.folder(listing.commit))


def _cached(model: HubModel) -> FoundModel:
    folder = model.cached()
    return FoundModel(read_model(folder), folder.name)


def _fetch_weights(model: HubModel, commit: str, names: tuple[str, ...], sizes: Mapping[str, int]) -> None:
    folder = model.folder(commit)
    for name in names:
        if name not in sizes:
            raise ModelRefused(f"Model {model.model_id}: {name} is named in {INDEX} but missing on the hub.")
    wanted = {name: sizes[name] for name in names if not (folder / name).exists()}
    if not wanted:
        return
    total = sum(wanted.values())
    _check_space(model, total)

    def arrived() -> int:
        return sum(size for name, size in wanted.items() if (folder / name).exists()) + model.in_flight()

    log.info("fetching %s at commit %s: %d file(s), %s", model.model_id, commit, len(wanted), decimal(total))
    with told_progress(total, arrived):
        for name in wanted:
            model.download(name, commit)


def _check_space(model: HubModel, needed: int) -> None:
    disk = next(folder for folder in (model.cache, *model.cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(disk).free
    if needed > free:
        raise ModelRefused(
            f"Model {model.model_id} takes {decimal(needed)} more and the disk of the cache has {decimal(free)} free; "
            f"free some space, or set --huggingface-hub-cache to another disk."
        )


def _settle_hf_transfer() -> None:
    """Unset HF_HUB_ENABLE_HF_TRANSFER, with a warning, where huggingface_hub cannot heed it.

    Version 0 fails without the package, later ones complain in their own words. Call before the library is imported.
    """
    if os.environ.get(HF_TRANSFER, "").upper() not in ("1", "ON", "YES", "TRUE"):
        return
    if int(version("huggingface_hub").partition(".")[0]) >= 1:
        reason = "this version of huggingface_hub does not use hf_transfer; set HF_XET_HIGH_PERFORMANCE=1 instead"
    elif find_spec("hf_transfer") is None:
        reason = "the package hf_transfer is not installed"
    else:
        return
    del os.environ[HF_TRANSFER]
    log.warning("%s has no effect: %s", HF_TRANSFER, reason)
