"""The tensor of the device: a wrapper around a hidden tensor of the CPU.

A view wraps a view of the hidden tensor, so that aliasing is that of real memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from virtual_device.memory import Allocation
from virtual_device.rules import is_composite
from virtual_device.state import STATE

NAME: Final = "hpu"


class HpuTensor(Tensor):
    """A tensor whose device is `hpu:0`."""

    _hidden: Tensor
    _allocation: Allocation | None
    _user_view: bool
    _born: tuple[Any, int] | None
    """The graph whose output this is, and which of its runs made it; kept only when stale reads are counted."""

    dispatch: ClassVar[Callable[[Any, Any, Any], Any]]
    """Runs an operator; virtual_device.dispatch, which needs this class, sets it."""

    @staticmethod
    def __new__(
        cls,
        hidden: Tensor,
        allocation: Allocation | None = None,
        user_view: bool = False,
        born: tuple[Any, int] | None = None,
    ) -> HpuTensor:
        if allocation is None and type(hidden) is Tensor:  # not for the fake tensors of dynamo
            allocation = Allocation(hidden.untyped_storage().nbytes())
        wrapper: HpuTensor = Tensor._make_wrapper_subclass(
            cls,
            hidden.shape,
            strides=hidden.stride(),
            storage_offset=hidden.storage_offset(),
            dtype=hidden.dtype,
            layout=hidden.layout,
            device=torch.device(NAME, 0),
            requires_grad=False,
        )
        wrapper._hidden, wrapper._allocation, wrapper._user_view, wrapper._born = hidden, allocation, user_view, born
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        kwargs = kwargs or {}
        if not torch.is_inference_mode_enabled():
            return cls.dispatch(func, args, kwargs)
        # In inference mode a view fails ("Cannot set version_counter for inference tensor") and composite operators
        # arrive whole, because the keys that take them apart are skipped: so leave it, and send those round again.
        with torch._C._InferenceMode(False):
            torch._C._set_grad_enabled(False)
            return func(*args, **kwargs) if is_composite(func) else cls.dispatch(func, args, kwargs)

    # Dynamo takes a subclass only when it can be taken apart. Also, module.to() then swaps tensors, which keeps the
    # identity of parameters and tied weights, as on a real device.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["_hidden"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], meta: object, size: object, stride: object) -> HpuTensor:
        return HpuTensor(inner["_hidden"])

    # What C++ refuses to do for subclasses.
    def tolist(self) -> Any:
        STATE.host_read("tolist")
        return self._hidden.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(
                "can't convert hpu:0 device type tensor to numpy. "
                "Use Tensor.cpu() to copy the tensor to host memory first."
            )
        return self.cpu().numpy()

    def __array__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.numpy()

    def data_ptr(self) -> int:
        return self._hidden.data_ptr()

    def __repr__(self, *, tensor_contents: object = None) -> str:  # type: ignore[override]
        """For debuggers; not counted as a read."""
        return f"hpu({self._hidden!r})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else repr(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            with torch.no_grad():
                copied: Tensor = self.detach().clone()
            if isinstance(self, nn.Parameter):
                copied = nn.Parameter(copied, self.requires_grad)
            elif self.requires_grad:
                copied.requires_grad_()
            memo[id(self)] = copied
        return memo[id(self)]

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, new: Tensor) -> None:  # module.to(dtype) assigns it
        if not isinstance(new, HpuTensor):
            raise RuntimeError("param.data = <cpu tensor> on an hpu parameter: replace the parameter instead")
        Tensor.data.__set__(self, new)  # type: ignore[attr-defined]
        self._hidden, self._allocation, self._user_view = new._hidden, new._allocation, new._user_view
