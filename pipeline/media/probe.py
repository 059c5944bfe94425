"""The facts about a source that planning and decoding need: `probing` finds them, and they travel as JSON.

A Probe describes the displayed picture: rotation, pixel aspect and edit lists are applied. Time zero is the first
frame that the decoder puts out.
"""

import json
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Literal, Self

import numpy as np

from pipeline.arrays import Picture
from pipeline.media.iso import Insets


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The facts about a source that planning and decoding need.

    kind: "video" or "image".
    width, height: px as displayed.
    stored: (width, height) in px of the frames that fill the picture. Others are fitted into it.
    insets: px of a stored frame that are not displayed: left, top, right, bottom.
    mirrored: left and right are exchanged before the picture is turned.
    rotation: degrees counter-clockwise, one of 0, 90, 180, 270.
    sample_aspect: width of a stored pixel over its height.
    frames_say_aspect: the frames state the pixel aspect, not the container. It may change from frame to frame.
    transfer: transfer function (ITU-T H.273 code) for frames that state none.
    codec: FFmpeg's name of it.
    profile: FFmpeg's name of the codec's profile. Empty if there is none.
    pixel_format: FFmpeg's name of the one of the first frame.
    interlaced: the first frame shows two moments in its lines.
    fps: average frames a second.
    time_base: seconds of one unit of pts.
    start_pts: pts of time zero, in time_base.
    duration_s: estimated duration; 0: unknown.
    promised_s: duration that the header states. It may be wrong.
    keyframe_ns: approximate times of keyframes from time zero. May be empty.
    enterable: decoding may begin in the middle.
    times_are_counted: whether a frame's time is its position in the order of output over `fps`, because the time stamps
        cannot be used.
    recorded_at: time of recording in ISO 8601, UTC. None if it is not known.
    stream: index in the container.
    packet_bytes, packet_ids: as in transport.Layout. If there are several IDs, the video continues from one to the
        next.
    warning: a remark for the user, or None.
    """

    kind: Literal["video", "image"]
    width: int
    height: int
    stored: tuple[int, int]
    insets: Insets
    mirrored: bool
    rotation: int
    sample_aspect: Fraction
    frames_say_aspect: bool
    transfer: int
    codec: str
    profile: str
    pixel_format: str
    interlaced: bool
    fps: Fraction
    time_base: Fraction
    start_pts: int
    duration_s: float
    promised_s: float
    keyframe_ns: tuple[int, ...]
    enterable: bool
    times_are_counted: bool
    recorded_at: str | None
    stream: int
    packet_bytes: int
    packet_ids: tuple[int, ...]
    warning: str | None

    def upright(self, picture: Picture) -> Picture:
        """Return a stored picture, (H, W) or (H, W, 3), in its displayed orientation."""
        return np.ascontiguousarray(np.rot90(picture[:, ::-1] if self.mirrored else picture, self.rotation // 90))

    def without_keyframes(self) -> Self:
        """Return a copy without the keyframes. Only planning needs them, and an hour of video has thousands."""
        return replace(self, keyframe_ns=())

    def to_json(self) -> str:
        """Return one line of JSON that from_json turns into an equal value."""
        return json.dumps({k: str(v) if isinstance(v, Fraction) else v for k, v in asdict(self).items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the Probe that to_json wrote."""
        fields = json.loads(text)
        fractions = {name: Fraction(fields[name]) for name in ("sample_aspect", "fps", "time_base")}
        tuples = {name: tuple(fields[name]) for name in ("stored", "insets", "keyframe_ns", "packet_ids")}
        return cls(**{**fields, **fractions, **tuples})
