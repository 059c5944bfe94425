"""Read parts of pictures out of their planes, on any device: scaled RGB pictures, and a measure of their detail.

All arithmetic is in whole numbers, so a card gives the bits of a CPU, and neither the place of a part in its batch nor
its neighbours can change them. Positions and weights are those of OpenCV's INTER_LINEAR. torchvision's roi_align would
need whole pictures as float32 RGB, eight times the bytes.

A part is a row of eight int64. Its columns:
0 start of the picture's planes in the memory, in bytes
1 number of its coding
2, 3 width and height of the picture, px
4, 5 left and upper border of the part, px
6, 7 width and height of the part, px. A part of no size is black.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from pipeline.media.canvas import LUMA, LUMA_601

PART_COLUMNS = 8
CODINGS = tuple((matrix, is_full) for matrix in (1, 6, 9) for is_full in (False, True))
"""The codings of colour by number: ITU-T H.273 matrix, and whether brightness has the full range."""
WEIGHT_BITS = 11
"""Weights of two neighbours have so many bits. Their sum is one."""
LUMA_BITS = 6
"""Bits behind the point of a brightness between pixels."""
COLOUR_BITS = 13
"""Bits behind the point of the factors that turn planes into RGB."""
PIXELS_A_STEP = 1 << 21
"""Pixels that are computed at once. It bounds the memory for what lies between."""
DETAIL_PX = 160
"""Longest side of the picture whose detail is measured, as media.crops.SHARPNESS_PX."""
DETAIL_SAMPLES = ((DETAIL_PX, 1), (2 * DETAIL_PX, 4), (None, 8))
"""Longest side of a part, and the number of samples in each direction of which a pixel of that picture is the mean. A
part that is not scaled down needs one."""


def coding_factors() -> Tensor:
    """Return (N, 6) int32 for CODINGS: the value of black, and the factors of brightness, of v in red, of u and v in
    green and of u in blue."""
    rows = []
    for matrix, is_full in CODINGS:
        red, blue = LUMA.get(matrix, LUMA_601)
        green = 1 - red - blue
        luma, chroma = (1.0, 1.0) if is_full else (255 / 219, 255 / 224)
        factors = (
            luma,
            2 * (1 - red) * chroma,
            -2 * blue * (1 - blue) / green * chroma,
            -2 * red * (1 - red) / green * chroma,
            2 * (1 - blue) * chroma,
        )
        rows.append([0 if is_full else 16, *(round(factor * (1 << COLOUR_BITS)) for factor in factors)])
    return torch.tensor(rows, dtype=torch.int32)


def cut(memory: Tensor, factors: Tensor, parts: Tensor, height: int, width: int) -> Tensor:
    """Scale (N, 8) parts to one size: (N, height, width, 3) uint8 RGB.

    memory: (B,) uint8 with the planes y, u and v of every picture, row after row.
    factors: `coding_factors` on the same device.
    """
    step = max(1, PIXELS_A_STEP // (height * width))
    return torch.cat([_cut(memory, factors, some, height, width) for some in parts.split(step)])


def letterbox(
    memory: Tensor,
    factors: Tensor,
    parts: Tensor,
    inner: tuple[int, int],
    outer: tuple[int, int],
    corner: tuple[int, int],
    grey: int,
) -> Tensor:
    """Scale (N, 8) parts to `inner`, (width, height), on a grey picture of `outer`: (N, height, width, 3) uint8 RGB.

    corner: left and upper border of the scaled part, px.
    """
    right, bottom = outer[0] - corner[0] - inner[0], outer[1] - corner[1] - inner[1]
    scaled = cut(memory, factors, parts, inner[1], inner[0])
    return pad(scaled, (0, 0, corner[0], right, corner[1], bottom), value=grey)


def detail_sums(memory: Tensor, factors: Tensor, parts: Tensor, num_samples: int) -> Tensor:
    """Return (N, 3) int64 of (N, 8) parts: the number of pixels, and the sums of the Laplacian of their brightness and
    of its square, at no more than DETAIL_PX on the long side.

    num_samples: from DETAIL_SAMPLES, for the size of the parts.
    """
    step = max(1, PIXELS_A_STEP // (DETAIL_PX * DETAIL_PX))
    return torch.cat([_detail_sums(memory, factors, some, num_samples) for some in parts.split(step)])


def _cut(memory: Tensor, factors: Tensor, parts: Tensor, height: int, width: int) -> Tensor:
    start, coding, picture_width, picture_height, left, top, across, down = parts.T[:, :, None]
    first_row, last_row, row_weight = _neighbours(down, height)
    first_column, last_column, column_weight = _neighbours(across, width)
    columns = [(left + column)[:, None, :] for column in (first_column, last_column)]
    rows = [(start + (top + row) * picture_width)[:, :, None] for row in (first_row, last_row)]
    weight = column_weight[:, None, :]
    upper, lower = (_mixed(memory[row + columns[0]], memory[row + columns[1]], weight) for row in rows)
    luma = _mixed(upper, lower, row_weight[:, :, None])
    luma.add_(1 << (2 * WEIGHT_BITS - LUMA_BITS - 1)).bitwise_right_shift_(2 * WEIGHT_BITS - LUMA_BITS)

    # The colour is that of the nearest pixel: it has half the resolution anyway.
    row = top + torch.where(row_weight * 2 < 1 << WEIGHT_BITS, first_row, last_row)
    column = left + torch.where(column_weight * 2 < 1 << WEIGHT_BITS, first_column, last_column)
    half_width, half_height = (picture_width + 1) >> 1, (picture_height + 1) >> 1
    u_rows = start + picture_width * picture_height + (row >> 1) * half_width
    places = u_rows[:, :, None] + (column >> 1)[:, None, :]
    u = memory[places].to(torch.int32).sub_(128)
    v = memory[places + (half_width * half_height)[:, :, None]].to(torch.int32).sub_(128)

    black, of_luma, v_in_red, u_in_green, v_in_green, u_in_blue = factors[coding[:, 0]].T[:, :, None, None]
    luma.sub_(black << LUMA_BITS).mul_(of_luma)
    u.bitwise_left_shift_(LUMA_BITS)
    v.bitwise_left_shift_(LUMA_BITS)
    red, green, blue = luma + v * v_in_red, luma + u * u_in_green + v * v_in_green, luma + u * u_in_blue
    # FFmpeg's scaler rounds down too.
    colours = [each.bitwise_right_shift_(COLOUR_BITS + LUMA_BITS).clamp_(0, 255) for each in (red, green, blue)]
    return torch.stack(colours, dim=3).to(torch.uint8) * _is_there(across, down)[:, :, None, None]


def _detail_sums(memory: Tensor, factors: Tensor, parts: Tensor, num_samples: int) -> Tensor:
    start, coding, picture_width, _, left, top, across, down = parts.T[:, :, None]
    longest = torch.maximum(across, down).clamp(min=1)
    width, height = (
        torch.where(longest > DETAIL_PX, (2 * DETAIL_PX * side + longest) // (2 * longest), side).clamp(1, DETAIL_PX)
        for side in (across, down)
    )
    rows, columns = _samples(down, height, num_samples), _samples(across, width, num_samples)
    luma = torch.zeros(len(parts), DETAIL_PX, DETAIL_PX, dtype=torch.int32, device=memory.device)
    for row in rows:
        place = (start + (top + row) * picture_width)[:, :, None]
        for column in columns:
            luma += memory[place + (left + column)[:, None, :]]
    black, of_luma = factors[coding[:, 0]].T[:2, :, None, None]
    count = num_samples * num_samples
    rounded = luma.sub_(black * count).mul_(of_luma).add_((count << COLOUR_BITS) // 2)
    grey = torch.div(rounded, count << COLOUR_BITS, rounding_mode="floor").clamp_(0, 255)

    # As OpenCV's Laplacian does, the pixels behind the border are mirrored.
    laplacian = -4 * grey
    for axis, size in ((1, height), (2, width)):
        place = torch.arange(DETAIL_PX, device=memory.device)[None]
        before, behind = (place - 1).abs(), torch.where(place + 1 < size, place + 1, size - 2)
        for neighbour in (before, behind):
            index = torch.minimum(neighbour.clamp(min=0), size - 1)
            index = index[:, :, None] if axis == 1 else index[:, None, :]
            laplacian += grey.gather(axis, index.expand_as(grey))
    place = torch.arange(DETAIL_PX, device=memory.device)[None]
    laplacian *= (place < height)[:, :, None] & (place < width)[:, None, :] & _is_there(across, down)[:, :, None]
    sums = laplacian.sum((1, 2), dtype=torch.int64), laplacian.square_().sum((1, 2), dtype=torch.int64)
    return torch.stack([(width * height)[:, 0], *sums], dim=1)


def _neighbours(side: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels on both sides of `count` positions along (N, 1) sides, and the weights of the second ones:
    (N, count) int64, int64 and int32. Behind a border the last pixel counts."""
    step = torch.arange(count, device=side.device)[None] * 2 + 1
    position = ((step * side << WEIGHT_BITS) + count) // (2 * count) - (1 << (WEIGHT_BITS - 1))
    first = position >> WEIGHT_BITS
    weight = (position & ((1 << WEIGHT_BITS) - 1)).to(torch.int32)
    return _inside(first, side), _inside(first + 1, side), weight


def _samples(side: Tensor, count: Tensor, num_samples: int) -> list[Tensor]:
    """Return the pixels under the samples of each of (N, 1) counts of positions along (N, 1) sides: (N,
    DETAIL_PX) each."""
    place = torch.arange(DETAIL_PX, device=side.device)[None]
    return [
        _inside(((place * num_samples + sample) * 2 + 1) * side // (2 * num_samples * count), side)
        for sample in range(num_samples)
    ]


def _inside(place: Tensor, side: Tensor) -> Tensor:
    return torch.minimum(place, side - 1).clamp_(min=0)


def _mixed(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Return the int32 mean of two values, times 1 << WEIGHT_BITS. weight: of the second, int32."""
    return (first * ((1 << WEIGHT_BITS) - weight)).add_(second * weight)


def _is_there(across: Tensor, down: Tensor) -> Tensor:
    return (across > 0) & (down > 0)
