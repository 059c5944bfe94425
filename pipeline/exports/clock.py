"""Times as people read them. All come from seconds of the video, never from a frame number and a rate or from the clock
of this machine."""

from datetime import datetime, timedelta, tzinfo


def video_time(seconds: float) -> str:
    """Return a time in a video as h:mm:ss.s."""
    hours, minutes, units, tenths = _split(seconds, 10)
    return f"{hours}:{minutes:02d}:{units:02d}.{tenths}"


def srt_time(seconds: float) -> str:
    """Return a time as SubRip has it: hh:mm:ss,mmm."""
    return vtt_time(seconds).replace(".", ",")


def vtt_time(seconds: float) -> str:
    """Return a time as WebVTT has it: hh:mm:ss.mmm."""
    hours, minutes, units, thousandths = _split(seconds, 1000)
    return f"{hours:02d}:{minutes:02d}:{units:02d}.{thousandths:03d}"


def recorded_time(recorded_at: datetime | None, seconds: float, zone: tzinfo) -> datetime | None:
    """Return the time of day in `zone` at a position of a recording, or None if its start is not known."""
    return None if recorded_at is None else (recorded_at + timedelta(seconds=seconds)).astimezone(zone)


def _split(seconds: float, parts: int) -> tuple[int, int, int, int]:
    """Return hours, minutes, seconds and `parts` of a second, rounded as a whole, so that none of them reaches 60."""
    units, rest = divmod(round(seconds * parts), parts)
    minutes, units = divmod(units, 60)
    hours, minutes = divmod(minutes, 60)
    return hours, minutes, units, rest
