"""Carry the sound of a video over to an MP4 file: its packets as they are where MP4 takes them, as AAC otherwise."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction

from av.audio.codeccontext import AudioCodecContext
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from pipeline.media.container import BadPacket, demux, fraction

COPIED = frozenset({"aac", "mp3", "mp2", "opus", "flac", "alac", "ac3", "eac3"})
"""Codecs whose packets MP4 takes and players of MP4 know."""
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
AAC_LAYOUTS = frozenset({"mono", "stereo", "5.1"})
TimedPacket = tuple[Fraction, Packet]
"""A packet with the time in seconds at which it is needed."""


class Sound:
    """The sound streams of a container on their way to an output.

    names: codecs of the streams that are encoded again.
    """

    def __init__(self, container: InputContainer, output: OutputContainer) -> None:
        self._container = container
        self._copied: dict[int, AudioStream] = {}
        self._encoded: dict[int, tuple[AudioStream, AudioResampler]] = {}
        self.names: list[str] = []
        for stream in container.streams.audio:
            if stream.codec_context is None or not stream.rate:
                continue
            if stream.codec_context.name.removesuffix("float") in COPIED:
                self._copied[stream.index] = output.add_stream_from_template(stream)
            else:
                self.names.append(stream.codec_context.name)
                self._encoded[stream.index] = _encoder(stream, output)

    @property
    def start_s(self) -> Fraction | None:
        """The time of the first sound in seconds, None if there is no sound or its start is not stated."""
        streams = [self._container.streams[index] for index in (*self._copied, *self._encoded)]
        times = [
            stream.start_time * base
            for stream in streams
            if stream.start_time is not None and (base := fraction(stream.time_base))
        ]
        return min(times, default=None)

    def packets(self, zero_s: Fraction) -> Iterator[TimedPacket]:
        """Yield the packets for the output in the order of the file, with times from `zero_s` on.

        Packets that cannot be read or decoded, or whose time stamps do not rise, are left out.
        """
        last_dts: dict[int, int] = {}
        for target, packet in self._converted(zero_s):
            base, dts = fraction(packet.time_base), packet.dts
            if base is None or dts is None or dts <= last_dts.get(target.index, dts - 1):
                continue
            last_dts[target.index] = dts
            packet.stream = target
            yield dts * base, packet

    def _converted(self, zero_s: Fraction) -> Iterator[tuple[AudioStream, Packet]]:
        wanted = {*self._copied, *self._encoded}
        if not wanted:
            return
        for packet in demux(self._container, None):
            if isinstance(packet, BadPacket) or packet.stream_index not in wanted or not packet.size:
                continue
            if packet.stream_index in self._copied:
                _shift(packet, zero_s)
                yield self._copied[packet.stream_index], packet
            else:
                yield from self._encode(packet.stream_index, packet, zero_s)
        for index in self._encoded:
            yield from self._encode(index, None, zero_s)

    def _encode(self, index: int, packet: Packet | None, zero_s: Fraction) -> Iterator[tuple[AudioStream, Packet]]:
        target, resampler = self._encoded[index]
        source = self._container.streams[index].codec_context
        assert isinstance(source, AudioCodecContext)
        packets: Sequence[Packet] = ()
        with suppress(FFmpegError, ValueError):
            for frame in source.decode(packet):
                for part in resampler.resample(frame):
                    packets = [*packets, *target.encode(part)]
            if packet is None:
                packets = [*packets, *target.encode(None)]
        for encoded in packets:
            _shift(encoded, zero_s)
            yield target, encoded


def _encoder(stream: AudioStream, output: OutputContainer) -> tuple[AudioStream, AudioResampler]:
    rate = min(AAC_RATES, key=lambda rate: (abs(rate - stream.rate), rate))
    layout = stream.layout.name if stream.layout.name in AAC_LAYOUTS else "stereo"
    target = output.add_stream("aac", rate=rate, layout=layout)
    return target, AudioResampler(format="fltp", layout=layout, rate=rate)


def _shift(packet: Packet, zero_s: Fraction) -> None:
    shift = round(zero_s / (fraction(packet.time_base) or 1))
    packet.pts = None if packet.pts is None else packet.pts - shift
    packet.dts = packet.pts if packet.dts is None else packet.dts - shift
