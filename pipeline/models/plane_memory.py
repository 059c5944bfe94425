"""Memory of a device in which the planes of pictures lie while models read people out of them."""

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.arrays import PlacedPlanes, Planes
from pipeline.models.batches import executor_of_models, host_memory, is_card, on_card
from pipeline.models.executor import Lane
from pipeline.models.plane_kernels import coding_factors


class PlaneMemory:
    """Rooms for the pictures of a process's spans, one room for each span, so that none waits for another. Where an
    executor runs the batches of models, it also sends the pictures, in its turn.

    planes: (B,) uint8 on the device. All rooms.
    factors: plane_kernels.coding_factors on the device.
    """

    def __init__(self, num_rooms: int, room_bytes: int, device: torch.device) -> None:
        self._room_bytes, self._is_on_card = room_bytes, is_card(device)
        self._staged = host_memory((num_rooms * room_bytes,), torch.uint8, device)
        self._bytes: NDArray[np.uint8] = self._staged.numpy()
        self.planes = torch.empty_like(self._staged, device=device) if self._is_on_card else self._staged
        self.factors = coding_factors().to(device)
        self._executor = executor_of_models()
        self._lane = Lane(1, lambda: np.zeros((1, 2), np.int64), self._send)
        self._unused: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(num_rooms):
            self._unused.put(number)

    @contextmanager
    def holding(self, pictures: Sequence[Planes]) -> Iterator[list[PlacedPlanes]]:
        """Keep pictures on the device during the block. Before its end the caller must have got results that were
        computed from them. Raises ValueError if a room is too small for them."""
        needed = sum(picture.num_bytes for picture in pictures)
        if needed > self._room_bytes:
            raise ValueError(f"the pictures must have at most {self._room_bytes} bytes together, got {needed}")
        number = self._unused.get()
        try:
            yield self._place(number * self._room_bytes, pictures)
        finally:
            self._unused.put(number)

    def _place(self, first: int, pictures: Sequence[Planes]) -> list[PlacedPlanes]:
        placed, start = [], first
        for picture in pictures:
            picture.write(self._bytes[start : start + picture.num_bytes])
            placed.append(PlacedPlanes(picture, start))
            start += picture.num_bytes
        if self._is_on_card:
            self._bring(first, start)
        return placed

    def _bring(self, first: int, end: int) -> None:
        """Send a part of the memory to the card."""

        def write(rows: NDArray[np.int64], _: int) -> None:
            rows[0] = first, end

        if self._executor is not None:
            self._executor.run(self._lane, write, 1)
        else:
            self._send(np.array([[first, end]]), 1)

    def _send(self, ends: NDArray[np.int64], _: int) -> list[NDArray[np.int64]]:
        first, end = ends[0].tolist()
        with on_card():  # batches run on the same stream, so they come after the copy
            self.planes[first:end].copy_(self._staged[first:end], non_blocking=True)
        return [ends.copy()]
