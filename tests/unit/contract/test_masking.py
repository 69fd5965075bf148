"""Secrets are hidden, and what only sounds like one is not."""

from __future__ import annotations

import json

import pytest

from sagemaker_byoc.contract.masking import Secrets, is_secret, shown_values
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters


@pytest.mark.parametrize(
    "key",
    ["hf_token", "HF-TOKEN", "client_secret", "db_password", "api_key", "apikey", "wandb-api-key",
     "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "credentials"],
)  # fmt: skip
def test_secret(key):
    """Names that services use for what nobody else may read."""
    assert is_secret(key)


@pytest.mark.parametrize("key", ["max_tokens", "tokenizer", "tokenizer_name", "epochs", "key"])
def test_no_secret(key):
    """Names of ordinary hyperparameters."""
    assert not is_secret(key)


def test_shown_values():
    """Numbers keep their text; what is secret inside an object is hidden as well."""
    nested = json.dumps({"user": "me", "login": [{"password": "hunter2"}]})
    shown = shown_values({"lr": "1.10", "token": "abc", "hub": nested})
    hidden = {"user": "me", "login": [{"password": "***"}]}
    assert shown == {"lr": "1.10", "token": "***", "hub": hidden}


def test_text_loses_every_secret():
    """From the environment, from hyperparameters with and without quotes, from inside objects."""
    raw = {"token": '"quoted-one"', "hub": '{"password": "nested-one"}', "epochs": "100000"}
    secrets = Secrets.of(Hyperparameters(raw), {"API_KEY": "environ-one", "HOME": "/home/me"})
    text = "quoted-one nested-one environ-one /home/me 100000"
    assert secrets.mask(text) == "*** *** *** /home/me 100000"


@pytest.mark.parametrize("key", [["a"], {"a": 1}, None])
def test_pairs_with_any_key(key):
    """An object of Key and Value looks like a tag, whatever its key is."""
    raw = {"x": json.dumps({"Key": key, "Value": {"password": "hunter2"}})}
    assert Secrets.of(Hyperparameters(raw), {}).mask("hunter2") == "***"
    assert "hunter2" not in json.dumps(shown_values(raw))


def test_all_under_a_secret_key_is_hidden():
    """Also what looks like a tag there."""
    raw = {"hub": json.dumps({"api_key": {"Key": "AKIAEXAMPLE", "Value": ["hunter2"]}})}
    assert Secrets.of(Hyperparameters(raw), {}).mask("AKIAEXAMPLE hunter2") == "*** ***"


def test_deep_values():
    """JSON that the parser takes and a recursion may not: nothing of it is shown or missed."""
    deep = f"{'[' * 600}{json.dumps({'password': 'hunter2'})}{']' * 600}"
    assert Secrets.of(Hyperparameters({"x": deep}), {}).mask("hunter2") == "***"
    assert "hunter2" not in str(shown_values({"x": deep}))


def test_short_values_stay_in_text():
    """A password of one letter can't be removed from text without ruining it."""
    secrets = Secrets.of(Hyperparameters({"password": "a"}), {})
    assert secrets.mask("a cat") == "a cat"
