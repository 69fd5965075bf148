"""Go on with a text, byte by byte, and send what there is as soon as it is there.

Body: {"prompt": "def main(", "max_tokens": 200, "temperature": 0.8, "seed": 1}; all but the prompt
may be left out. Reply: text in chunks, or an event a piece for Accept: text/event-stream.
"""

import codecs
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from model import GPT
from sagemaker_byoc.serving.error_replies import BadInput

END = 256  # ends a file in the training data; the tokens below it are bytes
MOST = 4096


@dataclass
class Wish:
    prompt: str
    max_tokens: int = 200
    temperature: float = 0.8
    seed: int = 0


def model_fn(model_dir):
    folder = Path(model_dir)
    card = json.loads((folder / "card.json").read_text())
    model = GPT(**card["config"])
    weights = load_file(folder / card["weights"])
    weights |= {name: weights[same] for name, same in card["tied"].items()}
    model.load_state_dict(weights)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def input_fn(body, content_type):
    if content_type != "application/json":
        raise BadInput("Send application/json")
    try:
        wish = Wish(**json.loads(body))
        prompt = list(wish.prompt.encode())
        wish.temperature = float(wish.temperature)
    except (TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"Give prompt, and perhaps max_tokens, temperature, seed: {error}") from None
    is_whole = all(isinstance(number, int) for number in (wish.max_tokens, wish.seed))
    if not prompt or not is_whole or not 1 <= wish.max_tokens <= MOST or wish.temperature <= 0:
        raise BadInput(f"prompt is empty, max_tokens not from 1 to {MOST}, or temperature not > 0")
    return wish


def predict_fn(wish, model):
    """A generator: that is all it takes to stream."""
    random = torch.Generator(model.tokens.weight.device).manual_seed(wish.seed)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    prompt = list(wish.prompt.encode())
    for token in model.generate(prompt, wish.max_tokens, wish.temperature, random):
        if token == END:
            break
        text = decoder.decode(bytes([token])) if token < END else ""
        if text:  # a letter of several bytes is sent when it is whole
            yield text
    rest = decoder.decode(b"", final=True)
    if rest:
        yield rest
