"""A plugin of contract 1.0: transformers, and the whole row computed anew at each step. Frozen, see setup.cfg."""

import torch
from runtime import hookimpl
from runtime.backend import Availability, BackendSpec, Capacity, DecodeOutput, PrefillOutput, Prefix


class Frozen:
    """The hooks that there were, with only the arguments that it needs."""

    def __init__(self, model, limits):
        import transformers

        net = getattr(transformers, model.architecture).from_pretrained(model.path, local_files_only=True)
        self.net = net.float().eval()
        self.vocabulary = model.vocabulary
        self.rows = limits.rows
        self.context = limits.context
        self.slots = {}

    @hookimpl
    def warmup(self):
        pass

    @hookimpl
    def prefill(self, batch):
        rows = []
        logits = torch.zeros(batch.shape.rows, self.vocabulary)
        for index in range(batch.shape.rows):
            length = int(batch.lengths[index])
            row = {"input_ids": batch.tokens[index : index + 1, :length]}
            if batch.images[index] is not None:
                row["pixel_values"] = batch.images[index].tiles
                row["image_sizes"] = torch.tensor(batch.images[index].sizes)
            rows.append(row)
            if length:
                logits[index] = self.compute(row)
        return PrefillOutput(logits=logits, prefix=Prefix(rows))

    @hookimpl
    def concatenate(self, prefix, placements):
        for placement in placements:
            self.slots[placement.slot] = prefix.state[placement.row]

    @hookimpl
    def decode(self, batch):
        logits = torch.zeros(batch.shape.rows, self.vocabulary)
        for slot in batch.active.nonzero().flatten().tolist():
            row = self.slots[slot]
            row["input_ids"] = torch.cat([row["input_ids"], batch.tokens[slot].view(1, 1)], dim=1)
            logits[slot] = self.compute(row)
        return DecodeOutput(logits=logits)

    @hookimpl
    def release(self, slots):
        for slot in slots:
            self.slots.pop(slot, None)

    @hookimpl
    def capacity(self):
        return Capacity(rows=self.rows, context=self.context)

    @torch.no_grad()
    def compute(self, row):
        return self.net(**row, use_cache=False).logits[0, -1]


@hookimpl
def runtime_backends():
    probe = Availability(ok=True, reason="", details={"device": "cpu"})
    return [BackendSpec("frozen", "made for contract 1.0", "~=1.0", lambda: probe, Frozen)]
