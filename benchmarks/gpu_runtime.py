# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Layers, kernels and times on a GPU; see benchmarks/gpu.

The runtime's C interface (moe_rt.h) and NVIDIA's driver, through ctypes:
memory stays on the device, a call puts its kernels on the default stream, and
events on that stream tell how long it took. PyTorch works on the same context
and stream.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_uint32
from ctypes import c_uint64, c_void_p
from pathlib import Path

import numpy as np

CUDA = 2
# Of the driver's interface.
CAPABILITY_MAJOR, CAPABILITY_MINOR, MOST_SHARED = 75, 76, 97
FUNCTION_SHARED = 8
ERROR_LOG, ERROR_LOG_BYTES = 5, 6
PLAIN_SHARED = 48 * 1024


class DeviceError(Exception):
    """What the runtime or the driver refuses."""


class _DType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16)]  # fmt: skip


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p), ("device_type", c_int32), ("device_id", c_int32),
        ("ndim", c_int32), ("dtype", _DType), ("shape", POINTER(ctypes.c_int64)),
        ("strides", c_void_p), ("byte_offset", c_uint64),
    ]  # fmt: skip


class _Entry(ctypes.Structure):
    _fields_ = [(name, c_void_p) for name in ("info", "run", "workspace", "pack")]


def _method(*types: type) -> type:
    return ctypes.CFUNCTYPE(c_int, c_void_p, *types)


class _GPU(ctypes.Structure):
    _fields_ = [
        ("device_id", c_int32), ("reserved", c_uint32),
        ("allocate", _method(c_uint64, POINTER(c_void_p))),
        ("release", ctypes.CFUNCTYPE(None, c_void_p, c_void_p)),
        ("write", _method(c_void_p, c_void_p, c_void_p, c_uint64)),
        ("read", _method(c_void_p, c_void_p, c_void_p, c_uint64)),
        ("launch", _method(c_void_p, c_void_p)),
        ("synchronize", _method(c_void_p)),
        ("order", _method(c_void_p, c_void_p)),
        ("error", ctypes.CFUNCTYPE(c_char_p, c_void_p)),
        ("destroy", ctypes.CFUNCTYPE(None, c_void_p)),
    ]  # fmt: skip


class Array:
    """Words of a device: of bf16 as u16, as NumPy has no such type."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype) -> None:
        self.address, self.shape = address, shape
        self.dtype = np.dtype(dtype)

    @property
    def numbytes(self) -> int:
        """Of all words."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict:
        # PyTorch reads it; it knows int16 in every version.
        kind = "<i2" if self.dtype == np.uint16 else self.dtype.str
        return {"shape": self.shape, "typestr": kind, "version": 2,
                "data": (self.address, False)}  # fmt: skip


class Device:
    """The first GPU of the driver, with a context of the runtime."""

    def __init__(self, runtime: Path) -> None:
        self.arrays: list[Array] = []
        self.modules: list[c_void_p] = []
        self.events: list[c_void_p] = []
        self.gpu_pointer = c_void_p()
        self.context = c_void_p()
        self.rt = ctypes.CDLL(str(runtime))
        self.rt.moe_context_error.restype = c_char_p
        self._check(self.rt.moe_context_create(c_int(1), byref(self.context)))
        try:
            self._check(
                self.rt.moe_gpu_open_cuda(
                    self.context, c_int(0), byref(self.gpu_pointer)
                )
            )
        except DeviceError:
            self.rt.moe_context_destroy(self.context)
            raise
        self.gpu = ctypes.cast(self.gpu_pointer, POINTER(_GPU)).contents
        self.rt.moe_context_set_gpu(self.context, self.gpu_pointer)
        # The runtime has found it.
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.device = c_int()
        self.drive("cuDeviceGet", byref(self.device), c_int(0))
        primary = c_void_p()
        self.drive("cuDevicePrimaryCtxRetain", byref(primary), self.device)
        self.drive("cuCtxPushCurrent_v2", primary)
        name = ctypes.create_string_buffer(256)
        self.drive("cuDeviceGetName", name, c_int(len(name)), self.device)
        self.name = name.value.decode()
        self.capability = 10 * self._attribute(CAPABILITY_MAJOR)
        self.capability += self._attribute(CAPABILITY_MINOR)
        self.most_shared = self._attribute(MOST_SHARED)

    def _attribute(self, number: int) -> int:
        value = c_int()
        self.drive(
            "cuDeviceGetAttribute", byref(value), c_int(number), self.device
        )
        return value.value

    def _check(self, status: int) -> None:
        if status:
            text = self.rt.moe_context_error(self.context)
            raise DeviceError((text or b"").decode() or f"status {status}")

    def _check_gpu(self, status: int) -> None:
        if status:
            raise DeviceError(self.gpu.error(self.gpu_pointer).decode())

    def drive(self, function: str, *arguments: object) -> None:
        """Calls the driver."""
        result = getattr(self.driver, function)(*arguments)
        if result:
            words = c_char_p()
            self.driver.cuGetErrorString(c_int(result), byref(words))
            text = (words.value or b"unknown error").decode()
            raise DeviceError(f"{function}: {text} (CUDA error {result})")

    def __enter__(self) -> Device:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self.close()
        except DeviceError:
            # A device that failed before fails again.
            if not error:
                raise

    def close(self) -> None:
        """Gives everything back."""
        self.synchronize()
        for array in self.arrays:
            self.gpu.release(self.gpu_pointer, array.address)
        for event in self.events:
            self.drive("cuEventDestroy_v2", event)
        for module in self.modules:
            self.drive("cuModuleUnload", module)
        self.rt.moe_context_destroy(self.context)
        self.gpu.destroy(self.gpu_pointer)
        self.drive("cuCtxPopCurrent_v2", byref(c_void_p()))
        self.drive("cuDevicePrimaryCtxRelease_v2", self.device)

    def synchronize(self) -> None:
        """Waits for the stream."""
        self._check_gpu(self.gpu.synchronize(self.gpu_pointer, None))

    def empty(self, shape: tuple[int, ...], dtype=np.uint16) -> Array:
        """Memory that nobody wrote."""
        array = Array(0, shape, dtype)
        address = c_void_p()
        size = max(array.numbytes, 1)
        self._check_gpu(
            self.gpu.allocate(self.gpu_pointer, size, byref(address))
        )
        array.address = address.value or 0
        self.arrays.append(array)
        return array

    def upload(self, values: np.ndarray) -> Array:
        """The values on the device."""
        values = np.ascontiguousarray(values)
        array = self.empty(values.shape, values.dtype)
        self._check_gpu(
            self.gpu.write(
                self.gpu_pointer, None, array.address,
                values.ctypes.data, array.numbytes,
            )  # fmt: skip
        )
        self.synchronize()
        return array

    def download(self, array: Array) -> np.ndarray:
        """The values that it holds when all is done."""
        values = np.empty(array.shape, array.dtype)
        self._check_gpu(
            self.gpu.read(
                self.gpu_pointer, None, values.ctypes.data, array.address,
                array.numbytes,
            )  # fmt: skip
        )
        self.synchronize()
        return values

    def release(self, arrays: Sequence[Array]) -> None:
        """Gives memory back that nothing uses any more."""
        self.synchronize()
        for array in arrays:
            self.arrays.remove(array)
            self.gpu.release(self.gpu_pointer, array.address)

    def event(self) -> c_void_p:
        """One that keeps the time."""
        event = c_void_p()
        self.drive("cuEventCreate", byref(event), c_uint32(0))
        self.events.append(event)
        return event

    def time(self, run: Callable[[], object]) -> float:
        """Seconds on the device from the first to the last of what `run` puts
        on the stream."""
        if not self.events:
            self.event(), self.event()
        start, end = self.events
        self.drive("cuEventRecord", start, None)
        run()
        self.drive("cuEventRecord", end, None)
        self.drive("cuEventSynchronize", end)
        milliseconds = ctypes.c_float()
        self.drive("cuEventElapsedTime", byref(milliseconds), start, end)
        return milliseconds.value * 1e-3


class Layer:
    """An entry of a library of moe-compile; its tensors are of bf16."""

    def __init__(self, device: Device, library: Path, name: str) -> None:
        self.device, self.entry = device, _Entry()
        self.module = c_void_p()
        device._check(
            device.rt.moe_module_load(
                device.context, str(library).encode(), byref(self.module)
            )
        )
        device._check(
            device.rt.moe_module_entry(
                device.context, self.module, name.encode(), byref(self.entry)
            )
        )

    def bind(self, inputs: Sequence[Array], out: Array) -> Callable[[], None]:
        """A call: when it returns, its kernels are on the stream."""
        device, rt, entry = self.device, self.device.rt, self.entry
        tensors = (_Tensor * len(inputs))(*map(_tensor_of, inputs))
        result = _tensor_of(out)
        count, one = c_uint32(len(inputs)), c_uint32(1)

        def call() -> None:
            device._check(
                rt.moe_entry_call(
                    device.context, byref(entry), tensors, count,
                    byref(result), one,
                )  # fmt: skip
            )

        return call

    def close(self) -> None:
        """No call is under way."""
        self.device.synchronize()
        self.device.rt.moe_module_unload(self.module)


def _tensor_of(array: Array) -> _Tensor:
    shape = (ctypes.c_int64 * len(array.shape))(*array.shape)
    bf16 = _DType(4, 16, 1)
    return _Tensor(
        array.address, CUDA, 0, len(array.shape), bf16, shape, None, 0
    )


class Function:
    """A kernel of PTX text, of whoever made it."""

    def __init__(
        self, device: Device, ptx: Path, name: str, threads: int, shared: int
    ) -> None:
        self.device, self.threads, self.shared = device, threads, shared
        module, self.handle = c_void_p(), c_void_p()
        image = ptx.read_bytes() + b"\0"
        log = ctypes.create_string_buffer(1024)
        options = (c_int * 2)(ERROR_LOG, ERROR_LOG_BYTES)
        values = (c_void_p * 2)(ctypes.addressof(log), len(log) - 1)
        try:
            device.drive("cuModuleLoadDataEx", byref(module), image,
                         c_uint32(2), options, values)  # fmt: skip
        except DeviceError as error:
            reason = log.value.decode(errors="replace").strip()
            raise DeviceError(f"{ptx.stem}: {error}: {reason}") from None
        device.modules.append(module)
        device.drive(
            "cuModuleGetFunction", byref(self.handle), module, name.encode()
        )
        if shared > PLAIN_SHARED:
            device.drive("cuFuncSetAttribute", self.handle,
                         c_int(FUNCTION_SHARED), c_int(shared))  # fmt: skip

    def bind(
        self, grid: Sequence[int], arguments: Sequence[object]
    ) -> Callable[[], None]:
        """A launch; arguments are arrays, numbers of i32, and None for null."""
        values = [
            c_uint64(argument.address) if isinstance(argument, Array)
            else c_uint64(0) if argument is None
            else c_int32(argument)
            for argument in arguments
        ]  # fmt: skip
        places = (c_void_p * len(values))(*map(ctypes.addressof, values))
        sizes = [*grid, 1, 1, 1][:3] + [self.threads, 1, 1, self.shared]
        words = [c_uint32(size) for size in sizes]

        def launch() -> None:
            # `values` stay alive by this: the places are theirs.
            assert len(values) == len(places)
            self.device.drive(
                "cuLaunchKernel", self.handle, *words, None, places, None
            )

        return launch
