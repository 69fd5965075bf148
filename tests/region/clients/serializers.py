"""Every serializer and deserializer of SageMaker SDK 2 or 3, against servers.

Arguments: their URLs. Prints, as JSON on its last line, what came back from each: what the
deserializer made of it, or the status of the refusal.
"""

import contextlib
import importlib.util
import io
import json
import sys
import tempfile
import urllib.error
import urllib.request

import numpy as np

try:
    from sagemaker.core import deserializers, serializers
except ImportError:
    from sagemaker import deserializers, serializers

HAS_TORCH = importlib.util.find_spec("torch") is not None
DESERIALIZERS = "CSV JSON JSONLines Numpy Pandas String Bytes Stream Record".split()
ROWS = [[1.5, 2.0], [3.0, 4.0]]


def ask(url, serializer, value, deserializer):
    headers = {"Accept": ", ".join(deserializer.ACCEPT)}
    if serializer.CONTENT_TYPE:
        headers["Content-Type"] = serializer.CONTENT_TYPE
    body = serializer.serialize(value)
    body = body.read() if hasattr(body, "read") else body
    body = body.encode() if isinstance(body, str) else bytes(body)
    request = urllib.request.Request(f"{url}/invocations", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            stream = io.BytesIO(reply.read())
            return deserializer.deserialize(stream, reply.headers["Content-Type"])
    except urllib.error.HTTPError as error:
        return f"{error.code} {json.loads(error.read())['error']['code']}"


def plain(value):
    if isinstance(value, tuple):  # of the stream: the stream, and its type
        return plain(value[0].read())
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.tolist()]
    return json.loads(value.to_json()) if hasattr(value, "to_json") else value


def sparse():
    import scipy.sparse

    return scipy.sparse.csr_matrix(np.array(ROWS))


def tensor():
    import torch

    return torch.tensor(ROWS)


def look(url, values):
    """By the name of the class."""
    found = {}
    for name, value in values.items():
        with contextlib.suppress(ImportError, NotImplementedError):
            made = value() if callable(value) else value
            serializer = getattr(serializers, name)()
            found[name] = plain(ask(url, serializer, made, deserializers.JSONDeserializer()))
    for name in DESERIALIZERS:
        deserializer = getattr(deserializers, f"{name}Deserializer")()
        found[f"{name}Deserializer"] = plain(
            ask(url, serializers.JSONSerializer(), ROWS, deserializer)
        )
    return found


with tempfile.NamedTemporaryFile(suffix=".bin") as file:
    file.write(b"\x00\x01")
    file.flush()
    VALUES = {
        "CSVSerializer": ROWS,
        "JSONSerializer": ROWS,
        "JSONLinesSerializer": ROWS,
        "NumpySerializer": ROWS,
        "LibSVMSerializer": "1 0:1.5 1:2.0",
        "StringSerializer": "a text",
        "IdentitySerializer": b"\x00\x01",
        "DataSerializer": file.name,
        "RecordSerializer": np.array(ROWS),  # not written yet in SDK 3
        "SparseMatrixSerializer": sparse,
    }
    if HAS_TORCH:
        VALUES["TorchTensorSerializer"] = tensor
        DESERIALIZERS.append("TorchTensor")
    answers = [look(url, VALUES) for url in sys.argv[1:]]
print()
print(json.dumps(answers))
