"""A card that is none: the CPU decodes, and the frames come as PyAV downloads them from a card."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from av.container import InputContainer
from av.video.frame import VideoFrame

from pipeline.media import container, entry
from pipeline.media.container import BadPacket
from pipeline.media.nvdec import FROM_CARD, CardDecoder

Change = Callable[[int, VideoFrame], VideoFrame | BadPacket]


class FakeCard(CardDecoder):
    """A decoder on a card for the time of a test.

    change: what becomes of a frame, given how many have been decoded before. None leaves all as they are.
    num_frames: frames decoded so far.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, change: Change | None = None) -> None:
        super().__init__(lambda: True)
        self.num_frames, self._change = 0, change or (lambda _, frame: frame)
        self._on_card: list[InputContainer] = []
        self._open, self._decode = container._container_in, entry.decode
        monkeypatch.setattr(container, "_container_in", self._opened)
        monkeypatch.setattr(entry, "decode", self._decoded)

    def hwaccel(self) -> Any:
        return self

    def _opened(self, file: Any, hwaccel: Any = None) -> InputContainer:
        there = self._open(file)
        if hwaccel is self:
            self._on_card.append(there)
        return there

    def _decoded(self, packets: Any, stream: Any, **how: Any) -> Iterator[VideoFrame | BadPacket]:
        frames = self._decode(packets, stream, **how)
        if not any(stream.container is there for there in self._on_card):
            yield from frames
            return
        for frame in frames:
            if isinstance(frame, BadPacket):
                yield frame
                continue
            there = frame.reformat(format=FROM_CARD, threads=1)
            there.colorspace = frame.colorspace  # PyAV exchanges two names of BT.601
            yield self._change(self.num_frames, there)
            self.num_frames += 1
