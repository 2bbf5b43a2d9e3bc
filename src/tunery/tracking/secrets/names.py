"""Which names speak of secrets: DB_PASSWORD, hf_token, apiKey; not eos_token, num_tokens, password_file."""

from __future__ import annotations

import re
from enum import Enum
from itertools import pairwise

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# A part of a name that is a secret on its own, whatever is glued before it: PGPASSWORD, dbpasswd.
_SECRET = re.compile(
    r"\w*(?:password|passwd|passphrase|passwort|kennwort|passcode)s?|\w*secrets?|credentials?|creds|authorization|bearer|cookies?"
    r"|\w*(?:api|access|private|secret|account|auth|encryption|signing)keys?|\w*(?:auth|access|refresh|hf|bearer)tokens?"
    r"|mnemonic|webhook"
)
_PASS = {"pass", "pwd", "dbpass", "sshpass", "userpass", "mypass", "smtppass", "rootpass", "adminpass"}
# What makes a key or several tokens secret; `sort_key` and `num_tokens` are ordinary.
_KEYS = {
    "api", "access", "private", "secret", "storage", "account", "signing", "encryption", "master", "service", "auth",
    "ssh", "license", "subscription", "shared", "deploy", "client", "jwt", "hmac", "aes", "rsa", "gpg", "pgp", "fernet",
    "wandb", "openai", "anthropic", "azure", "aws", "gcp", "gemini", "groq", "cohere", "mistral", "stripe",
    "sendgrid", "twilio", "webhook", "openrouter", "huggingface", "hf", "comet", "neptune", "deepseek", "together",
    "replicate",
}  # fmt: skip
_TOKENS = {
    "api", "access", "auth", "bearer", "hf", "hub", "refresh", "secret", "session",
}  # fmt: skip
# Words of a vocabulary, and parts of a prompt.
_VOCABULARY = {
    "eos", "bos", "pad", "unk", "sep", "cls", "mask", "image", "audio", "video", "special", "start", "end", "stop",
    "additional", "boi", "eoi", "prefix", "suffix", "last", "first", "next", "new", "each", "per", "target", "input",
    "output", "num", "n", "max", "min", "prev", "is", "middle", "fim", "user", "assistant", "system", "tool", "think",
}  # fmt: skip
_PASSES = {
    "forward", "backward", "first", "second", "third", "one", "two", "single", "multi", "train", "eval", "next", "n",
    "num", "full", "by", "lora",
}  # fmt: skip
# `password_file` names a file and `secret_name` a name; the secret is elsewhere.
_ABOUT = {
    "file", "path", "dir", "folder", "name", "names", "url", "uri", "length", "len", "size", "count", "type", "kind",
    "field", "column", "policy", "prompt", "template", "format", "min", "max", "ttl", "expiry", "expires", "age",
    "seconds", "env", "var", "variable", "regex", "pattern", "hint", "required", "enabled", "manager", "store",
    "provider", "class", "cls", "helper", "fn", "func", "error", "exception", "exists", "scope", "task", "question",
    "answer", "test", "agent", "santa",
}  # fmt: skip
_PLACES = {
    "prod", "production", "dev", "test", "staging", "live", "main", "old", "new", "default", "admin", "root", "user",
}  # fmt: skip


class Speaks(Enum):
    """How clearly a name speaks of a secret."""

    SURELY = "a password, whatever it looks like"
    OF_A_TOKEN = "a credential, unless it looks like a word of a vocabulary"
    MAYBE = "a credential only if it looks like one"


def speaks_of_secret(name: str) -> Speaks | None:
    """What a name says of its value; None for an ordinary name."""
    parts = [part.lower() for part in _PARTS.findall(name)]
    while len(parts) > 1 and (parts[-1].isdigit() or parts[-1] in _PLACES):  # DB_PASSWORD_PROD, token_2
        parts.pop()
    if not parts:
        return None
    before, last = parts[-2] if len(parts) > 1 else "", parts[-1]
    pairs = {f"{one}{two}" for one, two in pairwise(parts)}
    named = any(map(_SECRET.fullmatch, parts)) or bool(_KEYS & {pair.removesuffix("key") for pair in pairs})
    if named and last not in _ABOUT:
        return Speaks.MAYBE if last in ("id", "ids") else Speaks.SURELY
    if last == "key" and before and name.isupper():  # a variable of the environment; `base_key` is a digest of ours
        return Speaks.MAYBE
    return _speaks_at_end(before, last)


def _speaks_at_end(before: str, last: str) -> Speaks | None:
    """What only the last part tells: `pass` alone is a secret, `forward_pass` is work."""
    if last in _PASS:
        return Speaks.MAYBE if last == "pwd" or before in _PASSES else Speaks.SURELY
    if last in ("key", "keys") and before in _KEYS:
        return Speaks.SURELY
    if last == "token":
        return Speaks.MAYBE if before in _VOCABULARY else Speaks.OF_A_TOKEN
    if last == "tokens" and before in _TOKENS:
        return Speaks.OF_A_TOKEN
    return Speaks.MAYBE if last in ("auth", "pat", "sas") else None


def looks_secret(value: str) -> bool:
    """Whether a text looks like a credential: one word of 8 or more characters with letters and digits, no path."""
    if len(value) < 8 or re.search(r"[\s(){}\[\]<>|\\^$*]", value) or "/" in value:
        return False
    return bool(re.search(r"\d", value) and re.search(r"[A-Za-z]", value))


def is_vocabulary(value: str) -> bool:
    """Whether a text looks like a token of a vocabulary: <|im_end|>, </s>, [PAD], or white space."""
    return not value.strip() or bool(re.fullmatch(r"<[^<>]*>|\[[A-Z_]+\d*\]|\\[nrt]|▁.*|Ġ.*", value))
