from __future__ import annotations

import io
import logging
import string

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tunery.tracking.redact import MASK, RedactingFilter, redact

LETTERS = string.ascii_letters + string.digits
words = st.text(string.ascii_lowercase + " .,\n", max_size=20)
# A password as it may stand in a URI without being percent-encoded; slashes and at signs too, people write them.
passwords = st.text(LETTERS + "!$&*+,;=._~-/@:", min_size=6, max_size=30).filter(
    lambda text: any(c.isalpha() for c in text[:3])
)


@given(before=words, token=st.text(LETTERS, min_size=20, max_size=40), after=words)
def test_a_hugging_face_token_is_taken_out_wherever_it_stands(before: str, token: str, after: str) -> None:
    assert redact(f"{before} hf_{token} {after}") == f"{before} {MASK} {after}"


@example(user="0", password="0/A000", path="")  # not a port: a database's address has no @ in its path
@given(user=st.text(LETTERS, min_size=1, max_size=10), password=passwords, path=st.text(LETTERS, max_size=10))
def test_a_password_in_a_uri_is_taken_out_and_host_and_path_stay(user: str, password: str, path: str) -> None:
    text = redact(f"see postgresql+psycopg2://{user}:{password}@db.example:5432/{path} now")
    assert text == f"see postgresql+psycopg2://{MASK}@db.example:5432/{path} now"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    secret=st.text(LETTERS + "/+=$ %", min_size=6, max_size=40).filter(
        lambda text: text.strip() == text and text not in MASK
    ),
    tree=st.recursive(
        words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=8
    ),
)
def test_the_value_of_a_secret_variable_is_in_no_leaf_or_key(
    monkeypatch: pytest.MonkeyPatch, secret: str, tree: object
) -> None:
    monkeypatch.setenv("HF_TOKEN", secret)
    clean = redact({"deep": [tree, {"note": f"x{secret}y", f"key {secret}": (secret,)}]})
    assert secret not in _texts(clean)
    assert MASK in _texts(clean)


@given(text=st.text(string.ascii_letters + " .,:-_/()[]{}\n'\"", max_size=200))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "git+https://github.com/huggingface/peft@v0.21.2",
        "http://localhost:5000/path@here",
        "learning_rate=2.0e-4",
        "tokens: 512, max_new_tokens=64",
        "s3://bucket/key",
        "write to someone@example.com",
        "the secret of good bread is time",
        "{'eos_token': '<|im_end|>'}",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdefghijklmnop1234", "abcdefghijklmnop1234"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
        ("--password hunter22", "hunter22"),
        ("MY_API_KEY=abc", "abc"),
        ("https://h/x?token=s3cr3t&y=1", "s3cr3t"),
        ("https://ghp_abcdefghijklmnopqrst@github.com/x", "ghp_abc"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
    ],
)
def test_known_shapes_of_secrets_are_taken_out(text: str, secret: str) -> None:
    assert secret not in redact(text)


def test_values_under_keys_that_name_a_secret_are_taken_out_and_numbers_stay() -> None:
    tree = {"hf_token": "abc", "password": "x", "eos_token": "<|im_end|>", "rank": 16, "rate": 0.5, "none": None}
    assert redact(tree) == {**tree, "hf_token": MASK, "password": MASK}


def test_a_log_line_and_its_traceback_lose_their_secrets() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    logger = logging.Logger("alone")
    logger.addHandler(handler)
    try:
        raise ValueError("hf_abcdefghijklmnopqrstuvwx")
    except ValueError:
        logger.exception("at %s", "http://u:hunter22@host/")
    assert "hf_abc" not in stream.getvalue()
    assert "hunter22" not in stream.getvalue()
    assert f"at http://{MASK}@host/" in stream.getvalue()


def _texts(tree: object) -> str:
    if isinstance(tree, dict):
        return "\n".join(_texts(part) for pair in tree.items() for part in pair)
    if isinstance(tree, list | tuple):
        return "\n".join(map(_texts, tree))
    return str(tree)
