from __future__ import annotations

import io
import logging
import string
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.unit.tracking.planted import ORDINARY, PLANTED, SHAPES

from tunery.tracking.redact import MASK, RedactingFilter, redact

LETTERS = string.ascii_letters + string.digits
words = st.text(string.ascii_lowercase + " .,\n", max_size=20)
# A password as it may stand in a URI without being percent-encoded; slashes and at signs too, people write them.
passwords = st.text(LETTERS + "!$&*+,;=._~-/@:", min_size=6, max_size=30).filter(
    lambda text: any(c.isalpha() for c in text[:3])
)


@pytest.fixture(scope="module", autouse=True)
def _detectors_loaded() -> None:
    """The first text loads detect-secrets: a second, which hypothesis would take for a slow example."""
    redact("any text at all")


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
        'prompt_template: "Secret: {secret}\\nAnswer: {answer}"',
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


SECRET = "Zq7xhunter2"
FORMS = [(file, line.replace("@@", SECRET)) for file, lines in PLANTED.items() for line in lines]


def test_at_least_sixty_forms_are_planted() -> None:
    assert len(FORMS) + len(SHAPES) >= 60


@pytest.mark.parametrize(("file", "line"), FORMS)
def test_no_planted_secret_is_left_in_a_diff_or_in_a_text(file: str, line: str) -> None:
    added = "\n".join(f"+{part}" for part in line.split("\n"))
    diff = redact(f"diff --git a/{file} b/{file}\n--- a/{file}\n+++ b/{file}\n@@ -0,0 +1 @@\n{added}\n")
    for clean in (diff, redact(line)):
        assert SECRET not in clean
        assert "hunter2" not in clean
        assert "73910284" not in clean
        assert MASK in clean
        assert redact(clean) == clean


@pytest.mark.parametrize("token", SHAPES)
def test_a_token_that_is_known_by_its_shape_is_taken_out_of_a_sentence(token: str) -> None:
    assert redact(f"see {token} now") == f"see {MASK} now"


def test_a_diff_of_ordinary_training_code_stays_as_it_is() -> None:
    assert redact(ORDINARY) == ORDINARY


def test_code_that_looks_for_a_private_key_hides_nothing_behind_it() -> None:
    code = 'diff --git a/a.py b/a.py\n+if "-----BEGIN RSA PRIVATE KEY-----" in text:\n+    raise ValueError(name)\n'
    assert redact(code) == code.replace("-----BEGIN RSA PRIVATE KEY-----", MASK)
    assert redact(f"{code}diff --git a/b.py b/b.py\n+rank = 8\n").endswith("+rank = 8\n")


def test_a_private_key_of_which_a_diff_has_the_end_alone_is_taken_out() -> None:
    lines = " MIIEpAIBAAKCAQEAu1SU1LfVLPHCozMx\n+AQABo4IBdzCCAXMwDQYJ\n -----END RSA PRIVATE KEY-----\n"
    header = "diff --git a/id b/id\n@@ -9,3 +9,3 @@\n"
    assert redact(header + lines) == f"{header}{MASK}\n"


def test_only_the_secret_of_a_line_is_taken_out() -> None:
    line = 'login(token="abc123", name="model")  # of the hub'
    assert redact(line) == f'login(token="{MASK}", name="model")  # of the hub'
    assert redact(f"storage: postgresql://me:{SECRET}@db:5432/x") == f"storage: postgresql://{MASK}@db:5432/x"


def test_the_library_of_a_page_stays_and_its_text_does_not() -> None:
    script = '<script>a={accesstoken:{valType:"string",dflt:"none"},password:"text"}</script>'
    assert redact(f"{script}<p>password=hunter22</p>") == f"{script}<p>password={MASK}</p>"


def test_an_address_whose_slash_a_path_swallowed_loses_its_password() -> None:
    assert redact("looked in /home/me/https:/me:hunter22@host/rows") == f"looked in /home/me/https:/{MASK}@host/rows"


@pytest.mark.parametrize("name", ["PGPASSWORD", "DB_PASS", "GITLAB_TOKEN", "SMTP_PASSWD", "AZURE_STORAGE_KEY"])
def test_more_names_of_variables_are_those_of_secrets(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "swordfish-9")
    assert redact("it is swordfish-9") == f"it is {MASK}"


def test_a_text_of_megabytes_takes_seconds() -> None:
    began = time.process_time()
    redact(ORDINARY * 200)
    redact("aB3/" * 250_000)
    assert time.process_time() - began < 20


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
