"""What decoding and encoding of CSV and JSON cost, beside numpy, Python's json and orjson.

Run: .venv/bin/python benchmarks/formats.py [--beside PACKAGE]   (writes formats.json beside itself)

PACKAGE is another version of the library that can be imported under its own name, such as the
folder of an older commit in which `sagemaker_byoc` was replaced by `older_byoc` everywhere.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import orjson

ROWS = (1, 10, 100, 10_000)
COLUMNS = (1, 2, 4, 13, 100, 1_000)
MOST = 1_000_000
"""Numbers in the largest table, so that a run takes minutes."""
FEW = ((1, 13), (100, 1), (100, 13), (10_000, 1), (10_000, 13))
"""Shapes of the rarer forms."""
ROUNDS = 7
SECONDS = 0.004
"""CPU time of one turn, unless a single call takes longer."""
NUMPY = orjson.OPT_SERIALIZE_NUMPY

Call = Callable[[], object]
Rows = list[list[str]]


@dataclass
class Case:
    """One thing to do, by each side."""

    name: str
    rows: int
    columns: int
    peer: str
    """The side that ours is compared with: numpy, or what a handler would be written with."""
    sides: dict[str, Call]
    size: int = 0
    """Bytes of the body."""
    times: dict[str, list[float]] = field(default_factory=dict)

    def measure(self) -> dict[str, Any]:
        """Let the sides take turns; return medians in microseconds of CPU time, and ratios."""
        calls = {name: _calls(side) for name, side in self.sides.items()}
        for turn in range(ROUNDS):
            order = list(self.sides)
            for name in order if turn % 2 else reversed(order):
                taken = _timed(self.sides[name], calls[name])
                self.times.setdefault(name, []).append(taken)
        ours = self.times["ours"]
        return {
            "case": self.name,
            "rows": self.rows,
            "columns": self.columns,
            "bytes": self.size,
            "peer": self.peer,
            "us": {
                name: round(statistics.median(all_) * 1e6, 2) for name, all_ in self.times.items()
            },
            "ours_of": {
                name: round(statistics.median(a / b for a, b in zip(ours, all_, strict=True)), 2)
                for name, all_ in self.times.items()
                if name != "ours"
            },
        }


def _calls(side: Call) -> int:
    side()
    return max(1, int(SECONDS / max(_timed(side, 1), 1e-7)))


def _timed(side: Call, calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        side()
    return (time.process_time() - began) / calls


class Version:
    """One version of the library: its default decoder and encoder."""

    def __init__(self, package: str) -> None:
        def part(name: str) -> Any:
            return importlib.import_module(f"{package}.serving.{name}")

        self._defaults, self._media = part("worker.defaults"), part("media")
        self._context = part("worker.request_context").Context("/model", "cpu", 0)

    def decoder(
        self, body: bytes, kind: str, *, tensors: bool = False, header: str = "absent"
    ) -> Call:
        media_type = self._media.parse(kind)
        wanted = self._defaults.Wanted(tensors=tensors)
        decode, context = self._defaults.default_input, self._context
        return lambda: decode(body, media_type, context, header, wanted)

    def encoder(self, result: object, kind: str, *, wrapped: bool = False) -> Call:
        encode, context = self._defaults.default_output, self._context

        def call() -> object:
            context.asked_for_predictions = wrapped
            return encode(result, kind, context)

        return call


# ── the grid ──


def cells(digits: str, rows: int, columns: int) -> Rows:
    table = np.random.default_rng(7).normal(size=(rows, columns))
    write = {
        "1-3 digits": lambda number: str(int(abs(number) * 250)),
        "4 decimals": lambda number: f"{abs(number):.4f}",
        "17 digits": lambda number: repr(float(number)),
        "exponents": lambda number: f"{number:.6e}",
        "negative": lambda number: f"{-abs(number):.4f}",
    }[digits]
    return [[write(number) for number in row] for row in table]


def shapes() -> Iterator[tuple[int, int]]:
    for rows in ROWS:
        for columns in COLUMNS:
            if rows * columns <= MOST:
                yield rows, columns


def cases(versions: dict[str, Version]) -> Iterator[Case]:
    for digits, shape in product(("1-3 digits", "4 decimals", "17 digits"), shapes()):
        yield csv_in(versions, digits, cells(digits, *shape))
        yield json_in(versions, "instances", digits, cells(digits, *shape))
    for digits, shape in product(("exponents", "negative"), FEW):
        yield csv_in(versions, digits, cells(digits, *shape))
        yield json_in(versions, "instances", digits, cells(digits, *shape))
    decimals = [cells("4 decimals", *shape) for shape in FEW]
    for form, rows in product(CSV_FORMS, decimals):
        yield csv_in(versions, "4 decimals", rows, form)
    for form, rows in product(JSON_FORMS, decimals):
        yield json_in(versions, form, "4 decimals", rows)
    for shape, result in product(shapes(), ("float32", "float64", "int64", "lists")):
        if result == "float64" or shape in FEW or shape[0] == 1:
            yield from replies(versions, result, *shape)


CSV_FORMS = ("spaces", "CRLF", "quoted", "empty", "header", "quoted header", "header, auto")
JSON_FORMS = ("bare", "flat", "with null", "lines", "features")


# ── bodies ──


def csv_in(versions: dict[str, Version], digits: str, rows: Rows, form: str = "") -> Case:
    if form == "empty":
        rows = [
            ["" if (r + c) % 10 == 3 else cell for c, cell in enumerate(row)]
            for r, row in enumerate(rows)
        ]
    if form == "quoted":
        rows = [[f'"{cell}"' for cell in row] for row in rows]
    lines = [(", " if form == "spaces" else ",").join(row) for row in rows]
    if form == "empty":
        lines = [line or '""' for line in lines]
    has_header = "header" in form
    if has_header:
        quote = '"' if "quoted" in form else ""
        lines.insert(0, ",".join(f"{quote}x{c}{quote}" for c in range(len(rows[0]))))
    end = "\r\n" if form == "CRLF" else "\n"
    body = "".join(line + end for line in lines).encode()
    policy = "auto" if "auto" in form else "present" if has_header else "absent"
    dtype = np.int64 if digits == "1-3 digits" else np.float64
    head = 0 if has_header else None
    more: dict[str, Any] = {"quotechar": '"'} if form == "quoted" else {}

    def loadtxt() -> object:
        return np.loadtxt(
            io.BytesIO(body), dtype, delimiter=",", ndmin=2, skiprows=int(has_header), **more
        )

    def genfromtxt() -> object:
        return np.genfromtxt(io.BytesIO(body), delimiter=",")

    sides = {name: one.decoder(body, "text/csv", header=policy) for name, one in versions.items()}
    if find_spec("pandas"):
        sides["pandas"] = lambda: (
            reference("pandas").read_csv(io.BytesIO(body), header=head).to_numpy()
        )
    if find_spec("pyarrow"):
        sides["pyarrow"] = lambda: by_pyarrow(body, has_header=has_header)
    peer = "genfromtxt" if form == "empty" else "loadtxt"
    sides[peer] = genfromtxt if form == "empty" else loadtxt
    return Case(_named("CSV in", digits, form), len(rows), len(rows[0]), peer, sides, len(body))


reference = cache(importlib.import_module)
"""Libraries that are not dependencies, measured if they are installed."""


def by_pyarrow(body: bytes, *, has_header: bool) -> object:
    read = reference("pyarrow.csv")
    options = read.ReadOptions(autogenerate_column_names=not has_header)
    table = read.read_csv(io.BytesIO(body), options)
    return np.column_stack([column.to_numpy() for column in table.columns])


def json_in(versions: dict[str, Version], form: str, digits: str, rows: Rows) -> Case:
    columns = len(rows[0])
    if form == "with null":
        rows = [
            ["null" if (r + c) % 10 == 3 else cell for c, cell in enumerate(row)]
            for r, row in enumerate(rows)
        ]
    lists = [f"[{', '.join(row)}]" for row in rows]
    is_lines = form in {"lines", "features"}
    if form == "flat":
        text = f"[{', '.join(cell for row in rows for cell in row)}]"
    elif is_lines:
        text = "".join(
            (f'{{"features": {row}}}' if form == "features" else row) + "\n" for row in lists
        )
    else:
        text = f"[{', '.join(lists)}]"
    body = (f'{{"instances": {text}}}' if form in {"instances", "with null"} else text).encode()
    dtype = np.int64 if digits == "1-3 digits" else np.float64

    def read(loads: Callable[[bytes], Any]) -> Call:
        if form == "features":
            return lambda: np.asarray(
                [loads(line)["features"] for line in body.splitlines()], dtype
            )
        if is_lines:
            return lambda: np.asarray([loads(line) for line in body.splitlines()], dtype)
        if form in {"instances", "with null"}:
            return lambda: np.asarray(loads(body)["instances"], dtype)
        return lambda: np.asarray(loads(body), dtype)

    kind = "application/jsonlines" if is_lines else "application/json"
    sides = {name: one.decoder(body, kind) for name, one in versions.items()}
    sides |= {"json + asarray": read(json.loads), "orjson + asarray": read(orjson.loads)}
    return Case(
        _named("JSON in", digits, form), len(rows), columns, "orjson + asarray", sides, len(body)
    )


def _named(what: str, digits: str, form: str) -> str:
    return ", ".join(word for word in (what, digits, form) if word)


# ── replies ──


def replies(versions: dict[str, Version], result: str, rows: int, columns: int) -> Iterator[Case]:
    table: Any = np.random.default_rng(7).normal(size=(rows, columns))
    if result == "int64":
        table = (table * 250).astype(np.int64)
    array = table if result != "float32" else table.astype(np.float32)
    value: Any = array.tolist() if result == "lists" else array

    def listed() -> Any:
        return value if result == "lists" else value.tolist()

    def savetxt() -> object:
        stream = io.BytesIO()
        np.savetxt(stream, value, "%d" if result == "int64" else "%.18e", ",")
        return stream.getvalue()

    def lines(dump: Callable[[Any], Any], empty: Any) -> Call:
        return lambda: empty.join(dump(row) for row in listed())

    peers: dict[str, dict[str, Call]] = {
        "text/csv": {"savetxt": savetxt},
        "application/json": {
            "orjson": lambda: orjson.dumps(value, option=NUMPY),
            "json": lambda: json.dumps(listed()).encode(),
        },
        "application/jsonlines": {
            "orjson": lines(orjson.dumps, b"\n"),
            "json": lines(json.dumps, "\n"),
        },
    }
    names = {"text/csv": "CSV", "application/json": "JSON", "application/jsonlines": "JSON Lines"}
    for kind, others in peers.items():
        sides = {name: one.encoder(value, kind) for name, one in versions.items()} | others
        yield Case(f"{names[kind]} out, {result}", rows, columns, next(iter(others)), sides)


# ── one request of the workloads in serving_apps/workload.py ──


def hot(versions: dict[str, Version]) -> Iterator[Case]:
    """Yield a request's and a reply's cost, from bytes to tensor and back."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return
    for name, columns in (("W1", 13), ("W4", 256)):
        row = np.random.default_rng(7).normal(size=(1, columns)).round(4).tolist()
        body = json.dumps({"instances": row}).encode()

        def lean(body: bytes = body) -> object:
            return torch.from_numpy(np.array(orjson.loads(body)["instances"], np.float32))

        def usual(body: bytes = body) -> object:
            return torch.from_numpy(np.asarray(json.loads(body)["instances"], np.float32))

        sides = {
            each: one.decoder(body, "application/json", tensors=True)
            for each, one in versions.items()
        }
        sides |= {"orjson + array": lean, "json + asarray": usual}
        yield Case(f"{name}: JSON to tensor", 1, columns, "orjson + array", sides, len(body))
    table = np.random.default_rng(7).normal(size=(100, 13))
    text = "".join(",".join(f"{v:.4f}" for v in row) + "\n" for row in table).encode()

    def loadtxt() -> object:
        return torch.from_numpy(np.loadtxt(io.BytesIO(text), np.float32, delimiter=",", ndmin=2))

    sides = {each: one.decoder(text, "text/csv", tensors=True) for each, one in versions.items()}
    sides["loadtxt"] = loadtxt
    yield Case("W2: CSV to tensor", 100, 13, "loadtxt", sides, len(text))
    for name, rows, columns in (("W1", 1, 1), ("W4", 1, 10), ("W2", 100, 1)):
        result = torch.randn(rows, columns)

        def lean_reply(result: Any = result) -> object:
            return orjson.dumps({"predictions": result.numpy()}, option=NUMPY)

        def usual_reply(result: Any = result) -> object:
            return json.dumps({"predictions": result.tolist()}).encode()

        sides = {
            each: one.encoder(result, "application/json", wrapped=True)
            for each, one in versions.items()
        }
        sides |= {"orjson": lean_reply, "json": usual_reply}
        yield Case(f"{name}: tensor to JSON", rows, columns, "orjson", sides)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", metavar="PACKAGE", help="another version, importable")
    parser.add_argument("--only", default="", help="only cases whose name has this text")
    chosen = parser.parse_args(arguments)
    versions = {"ours": Version("sagemaker_byoc")}
    if chosen.beside:
        versions["before"] = Version(chosen.beside)
    results = []
    for source in (cases, hot):  # tensors last: with torch loaded, a reply is searched for tensors
        for case in source(versions):
            if chosen.only in case.name:
                results.append(case.measure())
                print(json.dumps(results[-1]), flush=True)
    if not chosen.only:
        Path(__file__).with_suffix(".json").write_text(
            "[\n" + ",\n".join(map(json.dumps, results)) + "\n]\n"
        )


if __name__ == "__main__":
    main()
