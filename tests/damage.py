"""Damage files as disks, networks and programs do. The same seed gives the same damage."""

import random
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[bytearray, random.Random], bytearray]


def flip_bits(content: bytearray, chance: random.Random) -> bytearray:
    """Flip some bits, as bad memory or a bad cable does."""
    for _ in range(chance.choice((1, 5, 50, 500))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return content


def zero_block(content: bytearray, chance: random.Random) -> bytearray:
    """Set whole sectors to zero, as a bad disk does."""
    for _ in range(chance.choice((1, 3))):
        start = chance.randrange(len(content)) // 512 * 512
        length = min(512 * chance.choice((1, 8, 64)), len(content) - start)
        content[start : start + length] = bytes(length)
    return content


def cut_end(content: bytearray, chance: random.Random) -> bytearray:
    """Drop the end, as an interrupted copy does."""
    return content[: chance.randrange(1, len(content))]


def cut_start(content: bytearray, chance: random.Random) -> bytearray:
    """Drop the start, as a recording does that began in the middle."""
    return content[chance.randrange(1, len(content)) :]


def lose_block(content: bytearray, chance: random.Random) -> bytearray:
    """Drop some bytes in the middle, as a lost packet does."""
    start = chance.randrange(len(content))
    del content[start : start + chance.choice((1, 100, 1316, 20_000))]
    return content or bytearray(b"\0")


def swap_blocks(content: bytearray, chance: random.Random) -> bytearray:
    """Exchange two blocks, as a broken file system does."""
    size = min(4096, len(content) // 4)
    a, b = (chance.randrange(len(content) - size) for _ in range(2))
    content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
    return content


def overwrite_header(content: bytearray, chance: random.Random) -> bytearray:
    """Write noise over part of the first kilobyte."""
    start = chance.randrange(min(1024, len(content)))
    noise = chance.randbytes(chance.choice((4, 16, 64)))
    content[start : start + len(noise)] = noise
    return content


def change_numbers(content: bytearray, chance: random.Random) -> bytearray:
    """Set four-byte numbers to extreme values. Sizes, counts and times in headers are such numbers."""
    for _ in range(chance.choice((1, 4, 16))):
        start = chance.randrange(max(1, min(len(content), 4096) - 4))
        content[start : start + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1"))
    return content


def append_noise(content: bytearray, chance: random.Random) -> bytearray:
    """Append noise, as a recorder does that reuses its disk."""
    return content + chance.randbytes(chance.choice((1, 1000, 100_000)))


KINDS: tuple[Damage, ...] = (
    flip_bits,
    zero_block,
    cut_end,
    cut_start,
    lose_block,
    swap_blocks,
    overwrite_header,
    change_numbers,
    append_noise,
)


def damaged(source: Path, folder: Path, count: int, seed: int) -> list[Path]:
    """Write `count` damaged copies of a file into `folder`, and return their paths. All kinds of damage take turns."""
    paths = []
    for number in range(count):
        chance = random.Random(f"{seed} {source.name} {number}")
        damage = KINDS[number % len(KINDS)]
        path = folder / f"{source.stem}-{number:03d}-{damage.__name__}{source.suffix}"
        path.write_bytes(damage(bytearray(source.read_bytes()), chance))
        paths.append(path)
    return paths
