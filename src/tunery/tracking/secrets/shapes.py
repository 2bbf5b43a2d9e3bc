"""Secrets that are known by their shape: tokens of services, credentials in addresses, private keys, headers."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from itertools import chain

from tunery.tracking.secrets.literals import MASK

# Detectors of detect-secrets that know a token by its shape. Those that go by names or by entropy are left out: names
# are read by secret_values, in more syntaxes, and commits, digests and item ids have as much entropy as any key.
_DETECTORS = (
    "aws.AWSKeyDetector", "azure_storage_key.AzureStorageKeyDetector", "discord.DiscordBotTokenDetector",
    "github_token.GitHubTokenDetector", "gitlab_token.GitLabTokenDetector", "mailchimp.MailchimpDetector",
    "npm.NpmDetector", "openai.OpenAIDetector", "pypi_token.PypiTokenDetector", "sendgrid.SendGridDetector",
    "slack.SlackDetector", "square_oauth.SquareOAuthDetector", "stripe.StripeDetector",
    "telegram_token.TelegramBotTokenDetector", "twilio.TwilioKeyDetector",
)  # fmt: skip
_SHORTEST = 12

# What a private key is made of, quoted and escaped as in a program's text; a header alone hides nothing behind it.
_KEY_BODY = r"[A-Za-z0-9+/=\s\\\"'`,.:;()|\-]{0,20000}?-----END [A-Z0-9 ]*PRIVATE KEY(?P=block)-----"
_KEY_LINES = r"(?:[\s\\\"'`+,.\-]{0,40}[A-Za-z0-9+/=]{20,})*"

# A text in small letters has one of the words in it wherever the pattern can match: most texts have none, and are done.
# What a pattern calls `kept` stays.
_PATTERNS: list[tuple[tuple[str, ...], str]] = [
    (("-----begin",), rf"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?P<block>(?: BLOCK)?)-----(?:{_KEY_BODY}|{_KEY_LINES})"),
    # Of a key that was changed in part, a diff has the end alone.
    (("-----end",), r"(?:^[+\- ]?[A-Za-z0-9+/]{20,}={0,2}\n)+[+\- ]?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"),
    (("age-secret-key-",), r"AGE-SECRET-KEY-[A-Z0-9\-]{20,}"),
    (("private-lines:",), r"(?P<kept>\bPrivate-Lines: \d+\n)(?:[+\- ]?[A-Za-z0-9+/=]{4,}(?:\n|\Z))+"),  # PuTTY
    # user:password@, the password with a slash or an at sign too. On the web a port is none: host:5000/a@b.
    # A path swallows a slash: https:/user:password@host. What f-strings and shells put in stays.
    ((":/",), r"(?P<kept>\b(?:(?P<web>https?)|(?!https?:/)[a-z][a-z0-9+.\-]*):(?://|/(?!/)(?=[^\s/@:]*:[^\s/]*@)))"
              r"(?!(?:\{[^{}\s]*\}|\$\{?\w+\}?):(?:\{[^{}\s]*\}|\$\{?\w+\}?)@)"
              r"(?:[^\s/@:\"'<>]*:(?(web)(?!\d+[/?#]))[^\s\"'<>]*|[^\s/\"'<>?#]+)(?=@)"),
    (("token=", "password=", "passwd=", "secret=", "key=", "signature=", "credential=", "sig="),
     r"(?P<kept>[?&;](?:[\w\-]*(?:token|password|passwd|secret|api_?key|signature|credential)|sig)=)[^&;\s\"'<>]+"),
    (("--",), r"(?P<kept>--[\w\-.]*(?:[\-_]token|password|passwd|secret|api[\-_]?key)[= ])"
              r"(?!\[redacted\]|\$|\{|<|--?[a-z])[^\s\"']+"),
    # Not "basic responsibilities": what is encoded has a capital, a digit or a sign in it.
    (("bearer", "basic"), r"(?P<kept>\b(?:bearer|basic)\s+)(?=[a-z]*(?-i:[A-Z0-9+/._~\-]))[A-Za-z0-9+/._~\-]{16,}=*"),
    (("-u", "--user"), r"(?P<kept>(?<![\w\-])(?:-u|--user)[= ][\"']?[^\s:\"'$]+:)(?!\d+\b)[^\s\"'$]+"),  # curl
    (("sshpass", "mysql", "docker"), r"(?P<kept>\b(?:sshpass\s+-p\s*|mysql(?:dump)?\s[^\n]*?\s-p(?=[^\s])|"
                                     r"docker\s+login\s[^\n]*?\s-p\s+)[\"']?)[^\s\"'$]+"),
    (("login",), r"(?P<kept>\blogin\(\s*(?:\w+\s*=\s*)?[\"'])[^\"']+"),
    (("login",), r"(?P<kept>\blogin\s+\S+(?:\n[+\- ]?|\s)\s*password\s+)\S+"),  # .netrc
    (("password", "identified"), r"(?P<kept>\b(?:password|identified\s+by)\s+')[^'\n]+(?=')"),  # SQL
    (("--token",), r"(?P<kept>--token )(?=\S*\d)(?=\S*[a-z])[\w.\-]{8,}"),
    ((":5432:", ":*:"), r"(?P<kept>^[+\- ]?[\w.*\-]+:(?:5432|\*):[\w*\-]+:[\w*\-]+:)\S+$"),  # .pgpass
    (("/api/webhooks/",), r"\bhttps://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/\d+/[\w\-]+"),
    (("hf_", "api_org_"), r"(?:hf|api_org)_[A-Za-z0-9]{16,}"),  # Hugging Face
    (("eyj",), r"\beyJ[\w\-]{8,}\.[\w\-]{8,}(?:\.[\w\-]*)?"),  # a JSON web token
    # GitHub, GitLab, Slack, OpenAI, Databricks, Weights & Biases, npm, Groq, Replicate, xAI, Google; shorter ones too
    (("gh", "glpat-", "xox", "sk-", "dapi", "wandb_v1_", "npm_", "gsk_", "r8_", "xai-"),
     r"\b(?:gh[oprsu]_|github_pat_|glpat-|xox[abposr]-|sk-|dapi|wandb_v1_|npm_|gsk_|r8_|xai-)[A-Za-z0-9_\-]{16,}"),
    (("aiza",), r"\bAIza[\w\-]{35}"),
]  # fmt: skip
_FLAGS = re.IGNORECASE | re.DOTALL | re.MULTILINE
_COMPILED = [(hints, re.compile(pattern, _FLAGS)) for hints, pattern in _PATTERNS]


def mask_shapes(text: str) -> str:
    """The text without what is a secret by its shape."""
    clean, small = text, text.lower()
    for hints, pattern in _COMPILED:
        if any(hint in small for hint in hints):
            clean = pattern.sub(_mask_but_kept, clean)
    if len(clean) < _SHORTEST:
        return clean
    for pattern in _detectors():
        clean = pattern.sub(_mask_token, clean)
    return clean


@cache
def _detectors() -> tuple[re.Pattern[str], ...]:
    """The detectors' own patterns: their `analyze_string` yields a pattern's first group, which is `ghp` for GitHub."""
    places = (named.split(".") for named in _DETECTORS)
    known = [getattr(import_module(f"detect_secrets.plugins.{module}"), name).denylist for module, name in places]
    # Not in the middle of a word: base64 of a picture holds anything.
    return tuple(re.compile(rf"(?<![\w+/])(?:{one.pattern})", one.flags) for one in chain.from_iterable(known))


def _mask_token(match: re.Match[str]) -> str:
    """A pattern with a long group names the secret by it, as of AWS's assignments; any other is the secret itself."""
    whole = match[0]
    named = next((group for group in match.groups() if group and len(group) > _SHORTEST), whole)
    return whole.replace(named, MASK)


def _mask_but_kept(match: re.Match[str]) -> str:
    return f"{match.groupdict().get('kept') or ''}{MASK}"
