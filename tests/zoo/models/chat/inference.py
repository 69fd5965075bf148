"""Does as the last message says."""


def model_fn(model_dir):
    return "model"


def words(text):
    yield from text.split()


def broken():
    yield "so far"
    raise ValueError("as asked")


def chat_fn(request, model):
    said = request["messages"][-1]["content"]
    if said == "dict":
        return {"object": "mine", "echo": request["messages"]}
    if said == "chunks":
        return iter([{"n": 1}, {"n": 2}])
    if said == "fail":
        raise ValueError("as asked")
    if said == "late":
        return broken()
    if said == "number":
        return 3
    if request.get("stream"):
        return words(said)
    return said.upper()
