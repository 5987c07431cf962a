"""Changes of valid files that leave most of them valid: bytes, and what the format itself makes possible."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any

Change = Callable[[Random, bytes], bytes]

NUMBERS = (0, 1, -1, 2, 7, 255, 256, 65535, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, *NUMBERS, -5, 0.5, -1e300, float("nan"), float("inf"), 10**30, "", "x", "../../etc", "none",
    "/etc/passwd", "a\n", "$(id)", "'; id #", "{input}", "\x00", "\u202e", "\ud800", "z" * 5000, "9" * 5000, [], {},
    [[]], [None], [1, [2, [3]]], {"x": 1}, {"": None}, {"kind": "one_hot", "classes": 1 << 40}, [0] * 300,
)  # fmt: skip
"""What takes the place of a value of JSON or YAML."""


def changed_bytes(random: Random, content: bytes) -> bytes:
    """Some bytes flipped, cut off, taken out, repeated, or made a number that lies."""
    data = bytearray(content or b"\x00")
    for _ in range(random.choice((1, 1, 2, 4, 12))):
        place = random.randrange(len(data)) if data else 0
        length = random.choice((1, 2, 4, 8, 32, 200))
        kind = random.randrange(7)
        if kind == 0 and data:
            data[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = data[place : place + length]
        elif kind == 4:
            number = random.choice(NUMBERS) & ((1 << 64) - 1)
            size = random.choice((1, 2, 4, 8))
            low = (number & ((1 << 8 * size) - 1)).to_bytes(size, random.choice(("little", "big")))
            data[place : place + size] = low
        elif kind == 5:
            data[place : place + length] = random.randbytes(length)
        else:
            other = random.randrange(len(data)) if data else 0
            data[place : place + length] = data[other : other + length]
    return bytes(data)


def changed_value(random: Random, value: Any) -> Any:
    """Plain values in which one or two somewhere inside are others, twice there, or gone."""
    value = json.loads(json.dumps(value))
    for _ in range(random.choice((1, 1, 2))):
        places = list(_places(value))
        if not places:
            return deepcopy(random.choice(VALUES))
        holder, key = random.choice(places)
        kind = random.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[random.choice(("x", "", "../x", "a\n", "name", "kind", "size", "none"))] = holder.pop(key)
        elif kind == 2:
            other, from_key = random.choice(places)
            if from_key in other if isinstance(other, dict) else from_key < len(other):
                holder[key] = json.loads(json.dumps(other[from_key]))
        elif kind == 3 and isinstance(holder, list):
            holder += [holder[key]] * random.choice((1, 50))
        else:
            holder[key] = deepcopy(random.choice(VALUES))
    return value


def _places(value: Any) -> Sequence[tuple[Any, Any]]:
    """Every place of a value inside another: what holds it, and under which key."""
    found: list[tuple[Any, Any]] = []
    level = [value]
    while level:
        holder = level.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        found += [(holder, key) for key in keys]
        level += [holder[key] for key in keys]
    return found


def changed_json(random: Random, content: bytes) -> bytes:
    """JSON of which a value is another, or whose text is damaged."""
    if random.random() < 0.3:
        return changed_bytes(random, content)
    if random.random() < 0.02:
        return b"[" * random.choice((60, 5000)) + b"]" * random.choice((0, 60, 5000))
    return json.dumps(changed_value(random, json.loads(content))).encode("utf-8", "surrogatepass")


def changed_yaml(random: Random, content: bytes) -> bytes:
    """A study, as text or as the JSON that YAML reads as well, with what YAML alone has: anchors, tags, merges."""
    import yaml

    kind = random.randrange(10)
    if kind < 3:
        return changed_bytes(random, content)
    if kind < 5:
        lines = content.decode().splitlines()
        place = random.randrange(len(lines))
        tricks = ("  " * 40 + "x:", "<<: *a", "x: &a [*a]", "? [x]", "x: !!python/name:os.system", "x: !!int 0x_",
                  "---", "x: !!binary '='", "x: 1:59:59", "x: 2020-13-01", "\t- x", "x: [[[[[[[[[[", "x: 'no end",
                  "!!set {x}", "x: !!float .", "x: !!timestamp '1'", "x: !!bool maybe", "%TAG ! x", "x: !!omap 3",
                  "x: =")  # fmt: skip
        lines.insert(place, random.choice(tricks))
        return "\n".join(lines).encode()
    value = changed_value(random, yaml.safe_load(content))
    return json.dumps(value).encode("utf-8", "surrogatepass")


def changed_tensors(random: Random, content: bytes) -> bytes:
    """A safetensors file whose header lies."""
    length = int.from_bytes(content[:8], "little")
    if random.random() < 0.4:
        return changed_bytes(random, content)
    header = json.dumps(changed_value(random, json.loads(content[8 : 8 + length]))).encode("utf-8", "surrogatepass")
    said = random.choice(NUMBERS) & ((1 << 64) - 1) if random.random() < 0.1 else len(header)
    return said.to_bytes(8, "little") + header + content[8 + length :]


def changed_png(random: Random, content: bytes) -> bytes:
    """A PNG file whose parts lie, with right checksums; or any picture with other bytes."""
    if not content.startswith(b"\x89PNG") or random.random() < 0.5:
        return changed_bytes(random, content)
    parts, place = [], 8
    while place + 12 <= len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        parts.append([content[place + 4 : place + 8], content[place + 8 : place + 8 + size]])
        place += 12 + size
    part = random.choice(parts)
    if part[0] == b"IHDR" and random.random() < 0.8:
        sides = [random.choice((0, 1, 32, 65535, 1 << 20, (1 << 31) - 1)) for _ in range(2)]
        part[1] = struct.pack(">II", *sides) + part[1][8:]
    elif part[0] == b"IDAT" and random.random() < 0.5:
        part[1] = zlib.compress(bytes(random.choice((0, 100, 1 << 16))))
    elif random.random() < 0.5:
        part[1] = changed_bytes(random, part[1])
    else:
        bomb = zlib.compress(bytes(1 << 20))
        parts.insert(1, [random.choice((b"zTXt", b"iCCP", b"eXIf", b"PLTE", b"tRNS", b"acTL")), b"a\x00\x00" + bomb])
    whole = content[:8]
    for name, data in parts:
        whole += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return whole


def changed_parquet(random: Random, content: bytes) -> bytes:
    """A parquet file with columns of another kind, name or length, or with other bytes."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    if random.random() < 0.6:
        # What is read first stands at the end.
        half = len(content) // 2
        end = random.random() < 0.5
        return content[:half] + changed_bytes(random, content[half:]) if end else changed_bytes(random, content)
    table = pq.read_table(io.BytesIO(content))
    number = random.randrange(table.num_columns)
    name, rows = table.column_names[number], table.num_rows
    columns: list[Any] = [
        pa.nulls(rows), pa.array(["x"] * rows), pa.array([float("nan")] * rows), pa.array([[1, 2]] * rows),
        pa.array([[]] * rows, pa.list_(pa.int64())), pa.array([1 << 62] * rows), pa.array([b"\xff"] * rows),
        pa.array([{"a": 1}] * rows), pa.array([[["x"]]] * rows), pa.array([None] * rows, pa.int64()),
        pa.array([None] * rows, pa.string()), pa.array([0] * rows, pa.timestamp("s")), pa.array([True] * rows),
    ]  # fmt: skip
    kind = random.randrange(5)
    if kind < 3:
        table = table.set_column(number, name, random.choice(columns))
    elif kind == 3:
        table = table.drop_columns([name]) if table.num_columns > 1 else table.slice(0, 0)
    else:
        table = random.choice((table.slice(0, 0), pa.concat_tables([table] * 3), table.append_column(name, columns[0])))
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()
