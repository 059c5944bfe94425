"""The choice of the decoder: the CPU, or a card where observe.decoder allows it and the machine can."""

from collections.abc import Callable
from functools import cache

from pipeline.config import Config, cluster_address
from pipeline.media.nvdec import LEAST_SPAN_S, CardDecoder, is_in_ffmpeg, why_not_on_card
from pipeline.media.probe import Probe
from pipeline.models import gpu

ON_CARD = "H.264 and HEVC are decoded on the GPU where that is exact, all else on the CPU"
NO_FFMPEG = "the FFmpeg of PyAV is built without it"
refusal_listeners: list[Callable[[str], None]] = []
"""Called with each reason why the CPU decodes what a card might have decoded, once in a process."""


def card_decoder(config: Config) -> CardDecoder | None:
    """Return the decoder on this machine's card, None if the CPU decodes everything. Say so if `auto` wanted it."""
    if not config.may_decode_on_card:
        return None
    if why := _why_not_here():
        say_once(why)
        return None
    return CardDecoder(gpu.enter_context)


def decoder_of_span(card: CardDecoder | None, probe: Probe, span_s: float) -> CardDecoder | None:
    """Return the card if it decodes a span of `span_s` seconds of a video, None if the CPU does."""
    return card if card is not None and why_not_on_card(probe, span_s) is None else None


def decoder_in_words(config: Config) -> str | None:
    """Return for the user who decodes and why, or None if the user has not let a card decode."""
    if config.observe.decoder == "cpu":
        return None
    why = "the models run on the CPU" if config.compute.device != "cuda" else None
    if why is None and config.chunk.max_seconds < LEAST_SPAN_S:
        why = f"chunks of less than {LEAST_SPAN_S} s are not worth it (chunk.max_seconds)"
    if why is None and cluster_address(config) is None:  # the workers of a cluster are on other machines
        why = _why_not_here()
    chosen = ON_CARD if why is None else f"the CPU decodes: {why}"
    return f"{chosen} (observe.decoder=auto)"


def _why_not_here() -> str | None:
    return gpu.why_no_nvdec() or (None if is_in_ffmpeg() else NO_FFMPEG)


@cache
def say_once(why: str) -> None:
    """Tell `refusal_listeners` why the CPU decodes something that a card might have decoded, if it is a new reason."""
    for listener in refusal_listeners:
        listener(why)
