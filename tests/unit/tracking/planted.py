"""Lines as people have them in files and commands, each with a made-up secret: `@@` stands for it."""

# The file that the lines are in, and the lines.
PLANTED: dict[str, list[str]] = {
    "train.py": [
        'user, password = "me", "@@"',
        'kennwort = "@@"',
        'api_key = "@@"',
        "password = '@@'",
        'token="@@"',
        'os.environ["X_TOKEN"] = "@@"',
        "os.environ['DB_PASS'] = '@@'",
        'os.environ.setdefault("HF_TOKEN", "@@")',
        'key = os.getenv("OPENAI_API_KEY", "@@")',
        'monkeypatch.setenv("PGPASSWORD", "@@")',
        'setattr(config, "db_password", "@@")',
        'db_password: str = "@@"',
        'token: str | None = "@@"',
        'client_secret: Final[str] = "@@"',
        'connect(host="db", user="me", password="@@", port=5432)',
        'login(token="@@")',
        'login("@@")',
        'wandb.login(key="@@")',
        'settings = {"user": "me", "password": "@@", "rank": 16}',
        'headers = {"Authorization": "Bearer @@"}',
        'headers = {"X-Api-Key": "@@"}',
        'requests.get(url, auth=("me", "@@1x"))',
        'API_KEYS = ["@@", "@@2"]',
        'secret = ("@@" "@@2")',
        'secret = (\n    "@@"\n)',
        'secret = "@@" + "@@2"',
        'token = "@@" if debug else "@@2"',
        'token = os.environ.get("X") or "@@"',
        'password = f"@@"',
        'password = b"@@"',
        'password = """@@"""',
        'SECRET = """\n@@\n"""',
        'password: SecretStr = SecretStr("@@")',
        'token: str = Field(default="@@", description="of the hub")',
        'parser.add_argument("--hub-token", type=str, default="@@")',
        'subprocess.run(["tool", "--password", "@@"])',
        'os.system("PGPASSWORD=@@ psql -h db")',
        'engine = create_engine("postgresql://me:@@@db:5432/runs")',
        'dsn = "host=db user=me password=@@ dbname=runs"',
        'conn = "Server=db;User Id=sa;Password=@@;Encrypt=yes"',
        'azure = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=@@;EndpointSuffix=core"',
        "self.apiKey = '@@'",
        'passphrase := "@@"',
        "# export HF_TOKEN=@@",
        "PASSWORD = 73910284",
        'GITHUB_PAT = "@@9z"',
        'mysql_pwd = "@@9z"',
    ],
    "analysis.ipynb": [
        '    "os.environ[\\"HF_TOKEN\\"] = \\"@@\\"\\n",',
        "    \"password = '@@'\\n\"",
    ],
    "settings.json": [
        '  "db_password": "@@",',
        '  "auth": {"token": "@@"},',
        '{"environment": [{"name": "DB_PASSWORD", "value": "@@"}]}',
        '  "secrets": ["@@", "@@2"],',
    ],
    "settings.yaml": [
        'db_password: "@@"',
        "password: @@",
        "password: correct horse @@",
        "  hf_token: @@  # of the hub",
        "secretKey: |\n  @@\n  @@2\nnext: 1",
        "passwords:\n  - @@\n  - @@2\nnext: 1",
        "env:\n  - name: WANDB_API_KEY\n    value: @@",
        "api_keys: [@@, @@2]",
        "environment:\n  - MYSQL_ROOT_PASSWORD=@@",
        "storage: postgresql+psycopg2://me:@@@db/optuna",
    ],
    "settings.toml": ['access_key = "@@"', "password = '''@@'''"],
    "pip.ini": [
        "index-url = https://me:@@@pypi.example/simple",
        "password = @@",
        "[pypi]\nusername = __token__\npassword = @@",
    ],
    ".env": [
        "DB_PASSWORD=@@",
        "GITHUB_PAT=@@9z",
        "SMTP_PASS=@@",
        "export PGPASSWORD='@@'",
        "DATABASE_URL=mysql://root:@@@localhost/db",
        "DB_PASSWORD_PROD=@@ with spaces",
        "OPENAI_KEY=@@",
    ],
    "run.sh": [
        "export X_TOKEN=@@",
        "PGPASSWORD=@@ psql -U me",
        'curl -H "Authorization: Bearer @@" https://api.example',
        "curl -H 'X-Auth-Token: @@' https://api.example",
        "curl -u me:@@ https://api.example",
        "curl 'https://api.example/rows?api_key=@@&page=2'",
        "tool --db-password @@ --rank 8",
        "tool --hub-token=@@",
        "hf auth login --token @@9z",
        "sshpass -p @@ ssh me@host",
        "mysql -u root -p@@ runs",
        "set -x HF_TOKEN @@",
        ': "${HF_TOKEN:=@@}"',
        "git clone https://oauth2:@@@gitlab.example/a/b.git",
    ],
    "Dockerfile": ["ENV HF_TOKEN @@", "ENV HF_TOKEN=@@", "ARG NPM_TOKEN=@@"],
    "main.tf": ['password = "@@"', 'variable "db_password" {\n  default = "@@"\n}'],
    "app.properties": ["spring.datasource.password=@@", "db.passwd = @@"],
    "web.config": ["<password>@@</password>", '<add key="DbPassword" value="@@" />'],
    ".npmrc": ["//registry.npmjs.org/:_authToken=@@"],
    ".netrc": ["machine api.example login me password @@", "machine api.example\n  login me\n  password @@"],
    "users.sql": ["CREATE USER me WITH PASSWORD '@@';", "ALTER USER me IDENTIFIED BY '@@';"],
    "main.rs": ['let api_key: &str = "@@";', 'const PASSWORD: &\'static str = "@@";'],
    "id.ppk": ["PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 2\n@@\nAAAA"],
    ".pgpass": ["db.example:5432:runs:me:@@"],
    "Program.cs": ['var clientSecret = "@@";', 'options.Password => "@@"'],
    "main.go": ['apiKey := "@@"'],
    "profile.ps1": ['$env:HF_TOKEN = "@@"'],
    "notes.md": ["The password: `@@`", "HF_TOKEN=@@ tunery train"],
}

# Of a shape that says what they are, wherever they stand.
SHAPES = [
    "hf_aBcDeFgHiJkLmNoPqRsTuV",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_11ABCDEFG0123456789_abcdefghijkl",
    "glpat-abcdefghij0123456789",
    "xoxb-123456789012-abcdefghijkl",
    "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
    "https://discord.com/api/webhooks/123456789/abcdefghij-ABCDEFG",
    "sk-proj-abcdefghij0123456789",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcdefghijkl",
    "SG.abcdefghijklmnopqrstuv.abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
    "sk_live_abcdefghijklmnopqrstuvwx",
    "AIzaSyA-abcdefghijklmnopqrstuvwxyz01234",
    "pypi-AgEIcHlwaS5vcmc" + "a" * 70,
    "-----BEGIN OPENSSH PRIVATE KEY-----\n+b3BlbnNzaC1rZXk\n+AAAA\n+-----END OPENSSH PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\\n" + "MIIEpAIBAAKCAQEA" * 4,  # in a program's text, and cut off
    "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQ",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----",
]

# A change of a training script with every word in it that is close to one of a secret.
ORDINARY = '''\
diff --git a/train.py b/train.py
index 1111111..2222222 100644
--- a/train.py
+++ b/train.py
@@ -1,8 +1,44 @@
+import secrets
+
+QUEUE_KEY, PASSES = "trial", 3
+tokenizer = AutoTokenizer.from_pretrained(name, token=args.token, use_fast=True)
+tokenizer.pad_token = tokenizer.eos_token
+special = {"eos_token": "<|im_end|>", "pad_token": "<pad>", "additional_special_tokens": ["<tool>"]}
+token = os.environ["HF_TOKEN"]
+token: str | None = None
+api_key = os.getenv("OPENAI_API_KEY")
+password = getpass.getpass("Password: ")
+password = args.password or None
+url = f"postgresql://{user}:{password}@{host}/runs"
+print(f"token: {token}, tokens: {len(tokens)}")
+max_new_tokens, num_tokens, tokens_per_second = 512, 0, 1.5
+def encode(text: str, token: str = "", max_tokens: int = 128) -> list[int]:
+    """Token ids of a text.
+
+    Args:
+        token: Access token of the hub; None for a public model.
+        key: The column.
+    """
+    tokens = [token for token in text.split() if token != "yes"]
+    forward_pass = model(**batch)
+    compare(row["key"], key="score", sort_key="accuracy", primary_key="id")
+    if token == "<s>" and secret_count > 3: pass
+    rng = np.random.default_rng(secrets.randbits(64))
+    password_file = "/run/secrets/db"
+    author, keys = "Jane", ["prompt", "completion"]
+    return tokenizer(text, truncation=True)["input_ids"]
+columns = ["token", "label", "secret_santa"]
+parser.add_argument("--hub-token", help="token of the hub")
+if "-----BEGIN RSA PRIVATE KEY" in text and not text.rstrip().endswith("PRIVATE KEY-----"):
+    raise ValueError("tokenizer --token 5, or --token '<eos>'")
+commit = "49a01fb7e1c05a7d2c3b9fd1a0c4c7c1e8d2f3a4"
+digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
diff --git a/projects/a/project.yaml b/projects/a/project.yaml
--- a/projects/a/project.yaml
+++ b/projects/a/project.yaml
@@ -1,2 +1,6 @@
+base: {model: builtin:tiny, revision: 49a01fb7e1c05a7d2c3b9fd1a0c4c7c1e8d2f3a4}
+training: {learning_rate: 2.0e-4, seed: 0}
+data: {max_length: 512, prompt_template: "Password: {prompt}"}
+token: ${HF_TOKEN}
+password: null
diff --git a/run.sh b/run.sh
--- a/run.sh
+++ b/run.sh
@@ -1,1 +1,3 @@
+tunery train --training.max_tokens 512 --token "$HF_TOKEN"
+docker run --user 1000:1000 -e HF_TOKEN image
+export HF_TOKEN=$(cat ~/.token)
'''
