"""docs/reference/serving-data.md: each of its cells is checked here, and it has no others.

`python -m tests.unit.serving.worker.test_serving_data` prints the tables.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import io
import json
import math
import pathlib
import sys

import numpy as np
import pytest
import scipy.sparse
from tests.support.arrays import npy  # noqa: F401 - the page's cells use it

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import Refusal
from sagemaker_byoc.serving.worker import defaults
from sagemaker_byoc.serving.worker.defaults import Wanted
from sagemaker_byoc.serving.worker.formats import forms
from sagemaker_byoc.serving.worker.request_context import Context

torch = pytest.importorskip("torch")
PAGE = pathlib.Path(__file__).parents[4] / "docs" / "reference" / "serving-data.md"


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def sparse():
    stream = io.BytesIO()
    scipy.sparse.save_npz(stream, scipy.sparse.csr_matrix([[0, 5]]))
    return stream.getvalue()


def safetensors(**arrays):
    return defaults.default_output(arrays, media.SAFETENSORS, Context("/m", "cpu", 0))


# Each line: content type, body (text, or an expression for bytes), then what is handed over:
# to the default predict_fn as an array | as a tensor where torch is loaded | to a predict_fn of the
# user's; then by sagemaker-inference | sagemaker-pytorch-inference | the scikit-learn container |
# the Hugging Face toolkit.
REQUESTS = r'''
application/json | [[1, 2]] | int64 [[1, 2]] | float32 tensor [[1.0, 2.0]] | int64 [[1, 2]] | int64 [[1, 2]] | float32 tensor [[1.0, 2.0]] | float32 [[1.0, 2.0]] | [[1, 2]]
application/json | [[1.5, 2]] | float64 [[1.5, 2.0]] | float32 tensor [[1.5, 2.0]] | float64 [[1.5, 2.0]] | float64 [[1.5, 2.0]] | float32 tensor [[1.5, 2.0]] | float32 [[1.5, 2.0]] | [[1.5, 2]]
application/json | [1.5, null] | float64 [1.5, nan] | float32 tensor [1.5, nan] | float64 [1.5, nan] | object [1.5, None] | error | float32 [[1.5, nan]] | [1.5, None]
application/json | [1.5, NaN] | float64 [1.5, nan] | float32 tensor [1.5, nan] | float64 [1.5, nan] | float64 [1.5, nan] | float32 tensor [1.5, nan] | float32 [[1.5, nan]] | [1.5, nan]
application/json | [true, false] | bool [True, False] | float32 tensor [1.0, 0.0] | bool [True, False] | bool [True, False] | float32 tensor [1.0, 0.0] | float32 [[1.0, 0.0]] | [True, False]
application/json | [9007199254740993] | int64 [9007199254740993] | float32 tensor [9007199254740992.0] | int64 [9007199254740993] | int64 [9007199254740993] | float32 tensor [9007199254740992.0] | float32 [[9007199254740992.0]] | [9007199254740993]
application/json | [18446744073709551615] | uint64 [18446744073709551615] | float32 tensor [1.8446744073709552e+19] | uint64 [18446744073709551615] | uint64 [18446744073709551615] | error | float32 [[1.8446744073709552e+19]] | [18446744073709551615]
application/json | [18446744073709551616] | 400 | float32 tensor [1.8446744073709552e+19] | [18446744073709551616] | object [18446744073709551616] | error | float32 [[1.8446744073709552e+19]] | [18446744073709551616]
application/json | [9223372036854775808, -1] | 400 | float32 tensor [9.223372036854776e+18, -1.0] | [9223372036854775808, -1] | float64 [9.223372036854776e+18, -1.0] | float32 tensor [9.223372036854776e+18, -1.0] | float32 [[9.223372036854776e+18, -1.0]] | [9223372036854775808, -1]
application/json | [[1, 2], [3]] | 400 | 400 | [[1, 2], [3]] | error | error | error | [[1, 2], [3]]
application/json | ["1", "b"] | 400 | 400 | ['1', 'b'] | <U1 ['1', 'b'] | error | error | ['1', 'b']
application/json | "text" | 400 | 400 | 'text' | <U4 'text' | error | error | 'text'
application/json | {"instances": [[1, 2]]} | int64 [[1, 2]] | float32 tensor [[1.0, 2.0]] | int64 [[1, 2]] | object {'instances': [[1, 2]]} | error | error | {'instances': [[1, 2]]}
application/json | {"inputs": [[1, 2]]} | int64 [[1, 2]] | float32 tensor [[1.0, 2.0]] | {'inputs': [[1, 2]]} | object {'inputs': [[1, 2]]} | error | error | {'inputs': [[1, 2]]}
application/json | {"inputs": [[1, 2]], "parameters": {}} | int64 [[1, 2]] | float32 tensor [[1.0, 2.0]] | {'inputs': [[1, 2]], 'parameters': {}} | object {'inputs': [[1, 2]], 'parameters': {}} | error | error | {'inputs': [[1, 2]], 'parameters': {}}
application/json | {"inputs": "a text"} | 400 | 400 | {'inputs': 'a text'} | object {'inputs': 'a text'} | error | error | {'inputs': 'a text'}
application/json | {"a": 1} | 400 | 400 | {'a': 1} | object {'a': 1} | error | error | {'a': 1}
application/json | \ufeff[1] | int64 [1] | float32 tensor [1.0] | int64 [1] | error | error | error | error
application/json; charset=latin1 | ["é"] | 400 | 400 | ['é'] | error | error | error | error
application/jsonlines | [1, 2]\n[3, 4] | int64 [[1, 2], [3, 4]] | float32 tensor [[1.0, 2.0], [3.0, 4.0]] | int64 [[1, 2], [3, 4]] | error | error | error | error
application/jsonlines | {"features": [1, 2]} | int64 [[1, 2]] | float32 tensor [[1.0, 2.0]] | int64 [[1, 2]] | error | error | error | error
application/jsonlines | {"text": "a"}\n{"text": "b"} | 400 | 400 | [{'text': 'a'}, {'text': 'b'}] | error | error | error | error
text/csv | 1,2\n3,4 | int64 [[1, 2], [3, 4]] | float32 tensor [[1.0, 2.0], [3.0, 4.0]] | int64 [[1, 2], [3, 4]] | int64 [[1, 2], [3, 4]] | float32 tensor [[1.0, 2.0], [3.0, 4.0]] | float32 [[1.0, 2.0], [3.0, 4.0]] | error
text/csv | 1.5,2 | float64 [[1.5, 2.0]] | float32 tensor [[1.5, 2.0]] | float64 [[1.5, 2.0]] | [('f0', '<f8'), ('f1', '<i8')] (1.5, 2) | error | error | error
text/csv | 1.5,\nNA,2 | float64 [[1.5, nan], [nan, 2.0]] | float32 tensor [[1.5, nan], [nan, 2.0]] | float64 [[1.5, nan], [nan, 2.0]] | [('f0', '<U3'), ('f1', '<i8')] [('1.5', -1), ('NA', 2)] | error | error | error
text/csv | 1,2,\n | float64 [[1.0, 2.0, nan]] | float32 tensor [[1.0, 2.0, nan]] | float64 [[1.0, 2.0, nan]] | int64 [1, 2, 0] | float32 tensor [1.0, 2.0, 0.0] | float32 [[1.0, 2.0, 0.0]] | error
text/csv | "1","2" | int64 [[1, 2]] | float32 tensor [[1.0, 2.0]] | int64 [[1, 2]] | <U3 ['"1"', '"2"'] | error | error | error
text/csv | 1\r2 | int64 [[1], [2]] | float32 tensor [[1.0], [2.0]] | int64 [[1], [2]] | <U3 '1\r2' | error | error | error
text/csv | \ufeff1,2 | int64 [[1, 2]] | float32 tensor [[1.0, 2.0]] | int64 [[1, 2]] | [('f0', '<U2'), ('f1', '<i8')] ('\ufeff1', 2) | error | error | error
text/csv; header=present | a,b\n1,2 | int64 [[1, 2]] | float32 tensor [[1.0, 2.0]] | int64 [[1, 2]] | error | error | error | error
text/csv | a,b\n1,2 | 400 | 400 | [['a', 'b'], ['1', '2']] | <U1 [['a', 'b'], ['1', '2']] | error | error | error
text/csv | "a,b","say ""hi"""\n"two\nlines",2 | 400 | 400 | [['a,b', 'say "hi"'], ['two\nlines', '2']] | error | error | error | error
text/csv | inputs\na text | 400 | 400 | [['inputs'], ['a text']] | <U6 ['inputs', 'a text'] | error | error | {'inputs': ['a text']}
text/csv | 1;2 | 400 | 400 | [['1;2']] | <U3 '1;2' | error | error | error
text/csv | 1,2\n3 | 400 | 400 | [['1', '2'], ['3']] | error | error | error | error
text/plain | hello | 415 | 415 | 'hello' | error | error | error | error
application/x-npy | npy(np.array([1e300])) | float64 [1e+300] | float64 tensor [1e+300] | float64 [1e+300] | float64 [1e+300] | float64 tensor [1e+300] | float64 [[1e+300]] | float64 [1e+300]
application/x-npy | npy(np.array([1, 2], '>i4')) | int32 [1, 2] | int32 tensor [1, 2] | int32 [1, 2] | >i4 [1, 2] | error | >i4 [[1, 2]] | >i4 [1, 2]
application/x-npy | npy(np.array(['cat'])) | 400 | 400 | <U3 ['cat'] | <U3 ['cat'] | error | <U3 [['cat']] | <U3 ['cat']
application/x-npy | npy(np.array([{}])) | 400 | 400 | 400 | object [{}] | error | object [[{}]] | object [{}]
application/x-npz | npz(a=np.array([1.5])) | float64 [1.5] | float64 tensor [1.5] | float64 [1.5] | error | error | error | error
application/x-npz | npz(a=np.array([1]), b=np.array([2.5])) | {'a': int64 [1], 'b': float64 [2.5]} | {'a': int64 tensor [1], 'b': float64 tensor [2.5]} | {'a': int64 [1], 'b': float64 [2.5]} | error | error | error | error
application/x-npz | sparse() | csr_matrix [[0, 5]] | int64 tensor [[0, 5]] | csr_matrix [[0, 5]] | csr_matrix [[0, 5]] | error | csr_matrix [[0, 5]] | error
application/x-safetensors | safetensors(a=np.array([1.5], 'f2')) | float16 [1.5] | float16 tensor [1.5] | float16 [1.5] | error | error | error | error
image/png | b'\x89PNG' | 415 | 415 | b'\x89PNG' | error | error | error | a PIL image
application/octet-stream | b'\x00' | 415 | 415 | b'\x00' | error | error | error | error
application/xml | <a/> | 415 | 415 | 415 | error | error | error | error
'''  # noqa: E501 - a row of the page each


class Color(enum.Enum):
    """An output that is a member of an enumeration."""

    RED = "red"


@dataclasses.dataclass
class Point:
    """An output that is an object."""

    x: int


# Each line: an expression for what predict_fn returns, then the reply: as JSON | as CSV | as npy;
# then JSON by sagemaker-inference (which the PyTorch and scikit-learn toolkits use) | CSV by it |
# JSON by the Hugging Face toolkit.
REPLIES = r'''
np.array([[0.1, 2]], np.float32) | [[0.1,2.0]] | 0.1,2.0\n | float32 [[0.10000000149011612, 2.0]] | [[0.10000000149011612, 2.0]] | 0.1,2.0\n | [[0.10000000149011612,2.0]]
np.array([1.5, np.nan]) | [1.5,null] | 1.5\nnan\n | float64 [1.5, nan] | [1.5, NaN] | 1.5\nnan\n | error
[1.5, math.inf] | [1.5,null] | 1.5\ninf\n | float64 [1.5, inf] | [1.5, Infinity] | 1.5\ninf\n | error
np.array([2**64 - 1], np.uint64) | [18446744073709551615] | 18446744073709551615\n | uint64 [18446744073709551615] | [18446744073709551615] | 18446744073709551615\n | [18446744073709551615]
[2**70] | [1180591620717411303424] | 1180591620717411303424\n | float64 [1.1805916207174113e+21] | [1180591620717411303424] | 1180591620717411303424\n | [1180591620717411303424]
np.array([1, 2], '>i4') | [1,2] | 1\n2\n | >i4 [1, 2] | [1, 2] | 1\n2\n | [1,2]
np.array([True]) | [true] | True\n | bool [True] | [true] | True\n | [true]
np.array(['cat', 'dog']) | ["cat","dog"] | cat\ndog\n | <U3 ['cat', 'dog'] | ["cat", "dog"] | cat\ndog\n | ["cat","dog"]
np.array(['a', 1, None], object) | ["a",1,null] | a\n1\n""\n | 406 | ["a", 1, null] | a\n1\nNone\n | ["a",1,null]
[['a,b', 'say "hi"']] | [["a,b","say \"hi\""]] | "a,b","say ""hi"""\n | <U8 [['a,b', 'say "hi"']] | [["a,b", "say \"hi\""]] | a,b,say "hi"\n | [["a,b","say \"hi\""]]
('positive', 'sentiment') | ["positive","sentiment"] | positive\nsentiment\n | <U9 ['positive', 'sentiment'] | ["positive", "sentiment"] | positive\nsentiment\n | ["positive","sentiment"]
'text' | "text" | text\n | <U4 'text' | "text" | error | "text"
{'label': np.array(['a']), 'score': np.array([0.5])} | {"label":["a"],"score":[0.5]} | 406 | 406 | {"label": ["a"], "score": [0.5]} | error | {"label":["a"],"score":[0.5]}
[{'label': 'a', 'score': 0.5}] | [{"label":"a","score":0.5}] | a,0.5\n | 406 | [{"label": "a", "score": 0.5}] | {'label': 'a', 'score': 0.5}\n | [{"label":"a","score":0.5}]
{0: 0.5, 1.5: 1, True: 2, None: 3} | {"0":0.5,"1.5":1,"true":2,"null":3} | 406 | 406 | {"0": 0.5, "1.5": 1, "true": 2, "null": 3} | error | {"0":0.5,"1.5":1,"true":2,"null":3}
{np.int64(3): 0.5} | {"3":0.5} | 406 | 406 | error | error | error
{1: 0, '1': 1} | 500 | 406 | 406 | {"1": 0, "1": 1} | error | {"1":0,"1":1}
np.array([(1, 2.5)], [('x', 'i4'), ('y', 'f4')]) | [[1,2.5]] | 1,2.5\n | [('x', '<i4'), ('y', '<f4')] [(1, 2.5)] | [[1, 2.5]] | 1,2.5\n | [[1,2.5]]
np.array(['2020-01-01', 'NaT'], 'M8[D]') | ["2020-01-01T00:00:00",null] | 2020-01-01T00:00:00\n""\n | datetime64[D] [datetime.date(2020, 1, 1), None] | error | 2020-01-01\nNaT\n | error
datetime.datetime(2020, 1, 1) | "2020-01-01T00:00:00" | 2020-01-01T00:00:00\n | 500 | error | error | "2020-01-01 00:00:00"
decimal.Decimal('0.1') | 0.1 | 0.1\n | 500 | error | error | error
{3, 1} | [1,3] | 1\n3\n | 406 | error | error | error
Color.RED | "red" | red\n | 500 | error | error | error
Point(1) | {"x":1} | 406 | 500 | error | error | error
{'a': b'x'} | 500 | 406 | 406 | error | error | error
1j | 406 | 1j\n | complex128 1j | error | error | error
datetime.timedelta(1) | 500 | 500 | 500 | error | error | error
scipy.sparse.csr_matrix([[0, 5]]) | [[0,5]] | 0,5\n | int64 [[0, 5]] | error | error | error
torch.tensor([1.5], dtype=torch.bfloat16, requires_grad=True) | [1.5] | 1.5\n | float32 [1.5] | error | error | [1.5]
torch.tensor([1j]).conj().real | [0.0] | 0.0\n | float32 [0.0] | [0.0] | 0.0\n | [0.0]
torch.tensor([[0, 5.0]]).to_sparse() | [[0.0,5.0]] | 0.0,5.0\n | float32 [[0.0, 5.0]] | error | error | error
(torch.ones(1), [torch.zeros(2)]) | [[1.0],[[0.0,0.0]]] | 406 | 406 | [[1.0], [[0.0, 0.0]]] | error | [[1.0],[[0.0,0.0]]]
None | null | ""\n | 500 | null | error | null
'''  # noqa: E501 - a row of the page each


def rows(table):
    return [[cell.strip(" ") for cell in line.split(" | ")] for line in table.strip().splitlines()]


def is_expression(body):
    return body.startswith(("npy(", "npz(", "sparse(", "safetensors(", "b'"))


def body_of(text, content_type):
    if is_expression(text):
        return eval(text)  # an expression of this file's
    parsed = media.parse(content_type)
    plain = text.replace(r"\n", "\n").replace(r"\r", "\r").replace(r"\ufeff", "\ufeff")
    return plain.encode(parsed.charset)


def told(value):
    """A value as the table writes it."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor {value.tolist()}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.tolist()!r}"
    if hasattr(value, "toarray"):
        return f"{type(value).__name__} {value.toarray().tolist()}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {told(entry)}" for name, entry in value.items()) + "}"
    return repr(value)


def received(content_type, body, wanted):
    media_type = media.parse(content_type)
    context = Context("/m", "cpu", 0, content_type=content_type)
    raw = forms.raw(body, media_type) if wanted.anything else None
    if raw is not None:
        return told(raw)
    try:
        return told(defaults.default_input(body, media_type, context, "absent", wanted))
    except Refusal as refusal:
        return str(refusal.status)


@pytest.mark.parametrize("row", rows(REQUESTS), ids=lambda row: f"{row[0]}-{row[1]}")
def test_requests(row):
    """What the three kinds of predict_fn get of a body."""
    content_type, text, *cells = row
    body = body_of(text, content_type)
    wants = (Wanted(tensors=False), Wanted(), Wanted(tensors=False, anything=True))
    assert [received(content_type, body, wanted) for wanted in wants] == cells[:3]


def written(value, accept):
    try:
        body = defaults.default_output(value, accept, Context("/m", "cpu", 0))
    except Refusal as refusal:
        return str(refusal.status)
    except TypeError:
        return "500"
    return told(np.load(io.BytesIO(body))) if accept == media.NPY else shown(body.decode())


def shown(text):
    return text.replace("\n", r"\n")


def value_of(text):
    names = {"math": math, "datetime": dt, "decimal": decimal, **globals()}
    return eval(text, names)  # an expression of this file's


@pytest.mark.parametrize("row", rows(REPLIES), ids=lambda row: row[0])
def test_replies(row):
    """What a result is in a reply."""
    value = value_of(row[0])
    cells = [written(value, accept) for accept in (media.JSON, media.CSV, media.NPY)]
    assert cells == row[1:4]
    if cells[0][0] not in "45":
        json.loads(cells[0], parse_constant=pytest.fail)  # strict parsers read it too


def aws(function, *arguments):
    try:
        return function(*arguments)
    except Exception:  # noqa: BLE001 - whatever it raises is a 500 there
        return None


class TestBesideAws:
    """The columns about AWS's own package, where that is installed."""

    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("sagemaker_inference.decoder", reason="not a dependency")

    @pytest.mark.parametrize("row", rows(REQUESTS), ids=lambda row: f"{row[0]}-{row[1]}")
    def test_requests(self, row):
        """sagemaker-inference's decoder, and what the PyTorch and scikit-learn defaults add."""
        from sagemaker_inference import decoder

        content_type, text, *cells = row
        body = body_of(text, content_type)
        is_text = content_type in {"application/json", "text/csv"}
        read = aws(decoder.decode, body.decode() if is_text else body, content_type)
        tensor = aws(torch.FloatTensor if is_text else torch.from_numpy, read)
        expected = [self.cell(read), self.cell(tensor), self.cell(aws(self.sklearn, read, is_text))]
        assert cells[3:6] == expected

    def cell(self, value):
        return "error" if value is None else told(value)

    def sklearn(self, read, is_text):
        whole = read.reshape(1, -1) if len(read.shape) == 1 else read
        return whole.astype(np.float32) if is_text else whole

    @pytest.mark.parametrize("row", rows(REPLIES), ids=lambda row: row[0])
    def test_replies(self, row):
        """Its encoder, with tensors as the PyTorch default makes lists of them."""
        from sagemaker_inference import encoder

        value = value_of(row[0])
        if type(value) is torch.Tensor:
            value = aws(lambda: value.detach().cpu().numpy().tolist())
            if value is None:
                value = object()
        written = [aws(encoder.encode, value, accept) for accept in (media.JSON, media.CSV)]
        assert ["error" if text is None else shown(text) for text in written] == row[4:6]


# ── the page ──


def quoted(cell):
    if cell.isdigit() and len(cell) == 3:
        return cell
    if cell in {"error", "a PIL image"}:
        return cell
    fence = "``" if "`" in cell else "`"
    return f"{fence}{cell}{fence}" if cell else ""


def table(text, titles):
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    lines += [f"| {' | '.join(map(quoted, row))} |" for row in rows(text)]
    return lines


TABLES = [
    *table(
        REQUESTS,
        [
            *("Content-Type", "body", "default `predict_fn`, no torch"),
            *("default `predict_fn`, torch", "your `predict_fn`, no torch"),
            *("sagemaker-inference", "PyTorch", "scikit-learn", "Hugging Face"),
        ],
    ),
    *table(
        REPLIES,
        [
            *("result", "JSON", "CSV", "npy (read back)"),
            *("AWS: JSON", "AWS: CSV", "Hugging Face: JSON"),
        ],
    ),
]


def test_page():
    """The page has these tables and no other line of a table."""
    lines = PAGE.read_text().splitlines()
    assert [line for line in lines if line.startswith("|")] == TABLES


if __name__ == "__main__":
    sys.stdout.write("\n".join(TABLES) + "\n")
