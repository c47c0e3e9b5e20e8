"""Stands in for torchvision: optimum-habana imports its `transforms` for a tokenizer that nothing here uses.

Each build of torchvision is bound to one of torch, and the vendor's images bring their own. Without metadata, so that
transformers takes torchvision as absent.
"""
