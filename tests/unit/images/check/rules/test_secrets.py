"""Secrets of every kind are found where they are, and what only looks like one is left alone."""

from __future__ import annotations

import io

import pytest
from tests.unit.images import made

from sagemaker_byoc.cli.commands.check import read_ignored
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.images.check.findings import Finding, Subject, apply
from sagemaker_byoc.images.check.rules import entry, secrets
from sagemaker_byoc.images.layers import merge, read_layer
from sagemaker_byoc.images.model import Config, Image

LETTERS = "Zm9vYmFyQmF6UXV4MTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6QUJDREVGR0hJSktM"
HEX = "0123456789abcdef" * 4
KEY = "-----BEGIN {}PRIVATE KEY-----{}b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ"
"""Made up: no secret of this file opens anything."""

VALUES = {
    "aws-access-key": "AKIAQ3EGRZ7XKD2WVLPT",
    "aws-secret-key": f"aws_secret_access_key={LETTERS[:40]}",
    "private-key": KEY.format("RSA ", "\n"),
    "github-token": f"ghp_{LETTERS[:36]}",
    "gitlab-token": f"glpat-{LETTERS[:20]}",
    "hugging-face-token": f"hf_{LETTERS[:34]}",
    "openai-key": f"sk-proj-{LETTERS[:60]}",
    "anthropic-key": f"sk-ant-api03-{LETTERS[:60]}",
    "groq-key": f"gsk_{LETTERS[:52]}",
    "nvidia-key": f"nvapi-{LETTERS[:64]}",
    "databricks-token": f"dapi{HEX[:32]}",
    "slack-token": f"xoxb-123456789012-1234567890123-{LETTERS[:24]}",
    "slack-webhook": f"https://hooks.slack.com/services/T0123456/B0123456/{LETTERS[:24]}",
    "google-api-key": f"AIza{LETTERS[:35]}",
    "npm-token": f"npm_{LETTERS[:36]}",
    "pypi-token": f"pypi-AgEIcHlwaS5vcmc{LETTERS[:60]}",
    "stripe-key": f"sk_live_{LETTERS[:24]}",
    "sendgrid-key": f"SG.{LETTERS[:22]}.{LETTERS[:43]}",
    "vault-token": f"hvs.{LETTERS[:30]}",
    "azure-key": f"AccountName=x;AccountKey={LETTERS[:70]}==;EndpointSuffix=core.windows.net",
    "azure-signature": f"https://x.blob.core.windows.net/c?sv=2022-11-02&sp=r&sig={LETTERS[:43]}%3D",
    "json-web-token": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{LETTERS[:43]}",
    "authorization": f"Authorization: Bearer {LETTERS[:40]}",
    "url-password": "postgres://u:p@h/db",
}


def config_finds(**config: object) -> list[Finding]:
    return finds(Config(**config))  # type: ignore[arg-type]


def finds(config: Config, *layers: dict[str, bytes | None]) -> list[Finding]:
    files = merge([read_layer(io.BytesIO(made.layer(layer))) for layer in layers])
    image = Image(reference="x", source="archive", config=config, files=files)
    return list(apply(secrets.RULES, Subject(image, frozenset()), {}))


@pytest.mark.parametrize("kind", VALUES)
def test_a_shape_is_found_wherever_it_is(kind):
    value = VALUES[kind]
    named = dict([value.split("=", 1)]) if kind == "aws-secret-key" else {"X": value}
    found = [
        *config_finds(environment=named),
        *config_finds(labels=named),
        *config_finds(history=(f"RUN something {value}",)),
        *config_finds(entrypoint=("program", value)),
    ]
    assert [finding.id for finding in found] == ["SEC001", "SEC001", "SEC002", "SEC001"]
    assert found[2].subject == kind
    assert not any(value in str(finding) for finding in found)


@pytest.mark.parametrize(
    ("command", "secret"),
    [
        (f"serve --token {VALUES['github-token']}", VALUES["github-token"]),
        ("serve --password hunter2", "hunter2"),
        ("DB_PASSWORD='hunter2' serve", "hunter2"),
        ("serve --db postgres://me:hunter2@db/x", "hunter2"),
    ],
)
def test_no_finding_shows_a_secret_of_the_command_itself(command, secret):
    config = Config(entrypoint=("/bin/sh", "-c", command))
    image = Image(reference="x", source="archive", config=config)
    subject = Subject(image, frozenset({"serve"}))
    found = [*apply(entry.RULES, subject, {}), *apply(secrets.RULES, subject, {})]
    assert [finding.id for finding in found] == ["IMG006", "SEC001"]
    assert secret not in str(found)


@pytest.mark.parametrize("kind", VALUES)
def test_a_shape_is_found_in_files_of_any_name(kind):
    value = VALUES[kind].replace("u:p@h", "me:hunter2@db")
    for path in (
        "app/settings.py",
        "usr/src/app/notes",
        "root/.config/tool.yaml",
        "home/a/x.ipynb",
    ):
        (finding,) = finds(Config(), {path: f'x = "{value}"\n'.encode()})
        assert (finding.id, finding.subject) == ("SEC003", f"/{path}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASSWORD", "hunter2"),
        ("FTP_PASS", "hunter2"),
        ("LOGIN_PWD", "s3cr3t!"),
        ("PGPASSWORD", "hunter2"),
        ("MYSQL_ROOT_PASSWORD", "1234"),
        ("DJANGO_SECRET_KEY", "l0ng&random#words"),
        ("CLIENT_SECRET", "aB3xK9mQ"),
        ("KEY_PASSPHRASE", "correct horse"),
        ("DB_PASSWORD", "s3cr$tX"),
        ("LDAP_BIND_PW", "q1w2e3r4"),
        ("JWT_SECRET", "my-jwt-signing-thing-77"),
        ("DB_PASSWORD", "#hunter2"),
        ("WANDB_API_KEY", HEX[:40]),
        ("STRIPE_KEY", "9f8e7d6c5b4a"),
        ("MY_KEY", "s3cr3t-v4lu3"),
        ("API_TOKEN", "not-a-real-one"),
        ("API_KEY_2", "9f8e7d6c5b4a"),
        ("SECRET_KEY_BASE", HEX),
        ("DB_PASS", "topsecret"),
        ("DATABASE_URL", "postgres://admin:s3cret@db/x"),
        ("REDIS_URL", "redis://:x7@cache:6379/0"),
        ("OPENAI_API_KEY", "sk-proj-abc123def456"),
        ("DOCKER_AUTH_CONFIG", '{"auths": {"x.io": {"auth": "bWU6aHVudGVyMg=="}}}'),
        ("SERVICE_TOKEN", "abcdef123456"),
        ("DEPLOY_CREDENTIALS", "8c1b2f7e-aa10-4d5c-9e3f-0a1b2c3d4e5f"),
        ("OPENAI_APIKEY", "9f8e7d6c5b4a"),
        ("myApiKey", "9f8e7d6c5b4a"),
        ("api.token", "9f8e7d6c5b4a"),
    ],
)
def test_a_variable_that_holds_a_secret_by_its_name(name, value):
    (finding,) = config_finds(environment={name: value})
    assert (finding.id, finding.subject) == ("SEC001", name)
    assert value not in str(finding)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PAD_TOKEN", "<pad>"),
        ("EOS_TOKEN", "</s>"),
        ("MASK_TOKEN", "[MASK]"),
        ("BOS_TOKEN", "<|begin_of_text|>"),
        ("STOP_TOKEN", "tok50256x"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("MAX_TOKENS", "4096"),
        ("N_TOKEN", "12345678"),
        ("PRIMARY_KEY", "id"),
        ("SORT_KEY", "created_at"),
        ("MODEL_KEY", "models/resnet50/model.tar.gz"),
        ("CACHE_KEY", "embeddings-v2-2024"),
        ("SSH_KEY_PATH", "/root/.ssh/id_rsa"),
        ("TLS_KEY", "/etc/tls/server.key"),
        ("GPG_KEY", "A035C8C19219BA821ECEA86B64E628F8D684696D"),  # python's official image
        ("SSH_PUBLIC_KEY", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIabcdef"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/var/run/key.json"),
        ("DB_PASSWORD", ""),
        ("DB_PASSWORD", "changeme"),
        ("DB_PASSWORD", "${DB_PASSWORD}"),
        ("DB_PASSWORD", "$PASSWORD"),
        ("DB_PASSWORD", "<your password>"),
        ("DB_PASSWORD", "********"),
        ("DB_PASSWORD", "xxxxxxxx"),
        ("DB_PASSWORD", "set-me-at-run-time"),
        ("POSTGRES_PASSWORD", "postgres"),
        ("ALLOW_EMPTY_PASSWORD", "yes"),
        ("PULL_SECRET", "registry-credentials"),
        ("DB_SECRET", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-x1Y2z3"),
        ("API_KEY", "{{ api_key }}"),
        ("API_KEY", "EMPTY"),
        ("NEXT_TOKEN", "end-of-text"),
        ("OPENAI_API_KEY", "your-key-here"),
        ("OPENAI_API_KEY", "sk-..."),
        ("PWD", "/opt/hunter2"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("DATABASE_URL", "postgres://user:password@db/x"),
        ("DATABASE_URL", "postgres://user:${PASSWORD}@db/x"),
        ("INDEX_URL", "https://pypi.org/simple"),
        ("LINK", "https://me@github.com/x.git"),
        ("PYTHON_SHA256", HEX),
        ("CERTIFICATE", "-----BEGIN CERTIFICATE-----\nMIIEow"),
        ("N_PASS", "12345"),
        ("STRIPE_PUBLISHABLE_KEY", "pk_live_jhIvQ0MUkqifNf4RigaSfOYH"),
        ("APT_KEY", "0xC150634C333694DD456DFAE080AAC639626C77A7"),
        ("MODEL_KEY", "resnet50"),
    ],
)
def test_a_variable_that_holds_none(name, value):
    assert config_finds(environment={name: value}, labels={name: value}) == []
    assert (
        config_finds(history=(f"ARG {name}={value}", f"RUN |1 {name}={value} /bin/sh -c x")) == []
    )


@pytest.mark.parametrize(
    ("command", "subject"),
    [
        ("RUN |1 PIP_TOKEN=abcdef123 /bin/sh -c pip install x # buildkit", "PIP_TOKEN"),
        ("ARG DB_PASS=hunter2", "DB_PASS"),
        ("RUN /bin/sh -c export DB_PASSWORD='hunter2' && make", "DB_PASSWORD"),
        ("RUN /bin/sh -c login --password hunter2 --user me", "password"),
        ("RUN /bin/sh -c login --api-key=9f8e7d6c5b4a", "api-key"),
        ("RUN /bin/sh -c curl -u me:hunter2 https://host/x", "curl --user"),
        ("RUN /bin/sh -c docker login -u me -p hunter2 x.io", "login -p"),
        ("RUN echo machine x login me password hunter2 > ~/.netrc", "netrc"),
        ("RUN npm config set //x.io/:_authToken=0a1b2c3d4e5f", "_authToken"),
        ("RUN /bin/sh -c git clone https://me:hunter2@host/x.git", "url-password"),
        ("RUN mysql -uroot -pS3cret99 -e x", "mysql -p"),
        (f"RUN wandb login {HEX[:40]}", "wandb login"),
        ("RUN echo root:hunter22 | chpasswd", "chpasswd"),
        ("RUN echo hunter22 | docker login --password-stdin", "docker login"),
        (f"RUN aws configure set aws_secret_access_key {LETTERS[:40]}", "aws configure"),
        ("RUN npm config set //registry.npmjs.org/:_authToken 0a1b2c3d-aaaa", "_authToken"),
        ("RUN poetry config http-basic.x user hunter22", "poetry config"),
    ],
)
def test_a_command_of_the_build(command, subject):
    (finding,) = config_finds(history=("RUN true", command, command))
    assert (finding.id, finding.subject) == ("SEC002", subject)
    assert finding.where == "history, step 2"


@pytest.mark.parametrize(
    "command",
    [
        "RUN /bin/sh -c PASSWORD=$(cat /run/secrets/p) make # buildkit",
        'RUN /bin/sh -c login --password "$PASSWORD" --token ${TOKEN}',
        "RUN /bin/sh -c gpg --batch --recv-keys A035C8C19219BA821ECEA86B64E628F8D684696D",
        "RUN /bin/sh -c curl -u $USER:$PASSWORD https://host",
        'RUN /bin/sh -c docker login -u "$USER" -p "$PASSWORD" x.io',
        "RUN /bin/sh -c cat /run/secrets/p | docker login --password-stdin x.io",
        "RUN mkdir -p /x && login -p /y",
        "RUN key='859BE8D7C586F538430B19C2467B942D3A79BD29'; gpg --recv-keys \"$key\"",
        "RUN --mount=type=secret,id=TOKEN,target=/root/.netrc pip install x",
        "RUN /bin/sh -c apt-get install -y passwd --no-install-recommends",
        "/bin/sh -c #(nop)  ENV DB_PASSWORD=hunter2",
        "ENV DB_PASSWORD=hunter2",
    ],
)
def test_a_command_without_a_secret_or_one_that_sec001_names(command):
    assert config_finds(history=(command,)) == []


STORES = {
    "app/.git/config": b"[remote]\n\turl = https://me:hunter2@github.com/x/y.git\n",
    "app/x/.git/config": b"\textraheader = AUTHORIZATION: basic eDp5\n",
    "app/y/.git/config": b"\turl = https://" + HEX[:40].encode() + b"@github.com/x/y.git\n",
    "root/.git-credentials": b"https://me:hunter2@github.com\n",
    "root/.netrc": b"machine api.wandb.ai\n  login user\n  password " + HEX[:40].encode(),
    "root/.pypirc": b"[pypi]\nusername = me\npassword = hunter2\n",
    "root/.npmrc": b"//registry.npmjs.org/:_authToken=0a1b2c3d-aaaa\n",
    "root/.kaggle/kaggle.json": b'{"username":"me","key":"0123456789abcdef0123456789abcdef"}',
    "root/.cache/huggingface/token": b"hf_short12345",
    "root/.aws/credentials": b"[default]\naws_secret_access_key = abc\n",
    "root/.docker/config.json": b'{"auths": {"x.io": {"auth": "bWU6aHVudGVyMg=="}}}',
    "root/.pgpass": b"db:5432:*:me:hunter2\n",
    "root/.kube/config": b"users:\n- user:\n    token: abc123def\n",
    "root/.config/gcloud/application_default_credentials.json": b'{"refresh_token": "1//0abc"}',
    "app/service.json": b'{"type": "service_account", "private_key": "'
    + KEY.format("", "\\n").encode()
    + b'"}',
    "app/.env": b"DEBUG=1\nexport DB_PASSWORD='hunter2'\n",
    "app/.env.production": b"STRIPE_KEY=9f8e7d6c5b4a\n",
    "app/old/.env": b"DEBUG=1\n#DB_PASSWORD=hunter2\n",
    "root/.gitconfig": b'[url "https://me:hunter2@github.com/"]\n',
    "app/prod.env": b"API_TOKEN=abcdef123456\n",
    "app/deploy_key": KEY.format("OPENSSH ", "\n").encode(),
    "root/.ssh/anything": KEY.format("EC ", "\r\n").encode(),
    "app/key.pem": KEY.format("ENCRYPTED ", "\n").encode(),
    "etc/ssl/private/server.key": KEY.format("", "\n").encode(),
    "app/rsa.key": b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
    b"DEK-Info: AES-128-CBC,0A\n\nMIIEow",
    "etc/pip.conf": b"[global]\nindex-url = https://me:hunter@host/simple\n",
    "app/train.sh": b"export WANDB_API_KEY=" + HEX[:40].encode() + b"\npython train.py\n",
    "app/compose.yml": b"services:\n  db:\n    environment:\n      POSTGRES_PASSWORD: s3cretpw9\n",
    "app/application.properties": b"spring.datasource.password=hunter22x\n",
    "app/appsettings.json": b'{"D": "Server=db;User Id=sa;Password=hunter22x;"}',
    "app/wp-config.php": b"define('DB_PASSWORD', 'hunter22x');\n",
    "app/terraform.tfstate": b'{"attributes":{"password":"hunter22xyz"}}',
    "root/.config/wandb/settings": b"[default]\napi_key = " + HEX[:40].encode(),
    "root/.mlflow/credentials": b"[mlflow]\nmlflow_tracking_password = hunter22\n",
    "root/.composer/auth.json": b'{"github-oauth":{"github.com":"' + HEX[:40].encode() + b'"}}',
    "root/.subversion/auth/svn.simple/ab": b"K 8\npassword\nV 8\nhunter22\nEND\n",
}


@pytest.mark.parametrize("path", STORES)
def test_a_file_that_keeps_a_secret(path):
    (finding,) = finds(Config(), {path: STORES[path]})
    assert (finding.id, finding.subject) == ("SEC003", f"/{path}")


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("app/.git/config", b"[remote]\n\turl = https://me@github.com/x/y.git\n\turl = git@x:y\n"),
        ("root/.npmrc", b"//registry.npmjs.org/:_authToken=${NPM_TOKEN}\n"),
        ("app/my.git/config.py", b"url = 'https://me:hunter@x/'\n"),
        ("root/.docker/config.json", b'{"auths": {"x.io": {}}, "credsStore": "desktop"}'),
        ("root/.aws/config", b"[default]\nregion = eu-west-1\n"),
        ("root/.ssh/id_ed25519.pub", b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@host"),
        ("root/.ssh/known_hosts", b"github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqq"),
        ("app/.env", b"PAD_TOKEN=<pad>\nDEBUG=1\nDB_PASSWORD=\n# OPENAI_API_KEY=sk-...\n"),
        ("app/.env.example", b"DB_PASSWORD=hunter2\n"),
        ("app/.env.sample", b"DB_PASSWORD=hunter2\n"),
        ("app/model.py", b'TOKEN = "<pad>"\nurl = "https://user:pass@host/"\nkey = "id"\n'),
        ("app/README.md", b"postgres://user:password@localhost/db, https://$USER:$PASSWORD@host"),
        ("app/README.md", b"export OPENAI_API_KEY=sk-... and AKIAIOSFODNN7EXAMPLE"),
        ("app/README.rst", b"encoded: " + VALUES["json-web-token"].encode()),
        ("app/COPYING", b"cvs://:pserver:anoncvs@sources.redhat.com:/cvs/src"),
        ("etc/chromium.d/apikeys", VALUES["google-api-key"].encode()),
        ("app/key.md", b"-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----"),
        ("app/ca.pem", b"-----BEGIN CERTIFICATE-----\nMIIEow"),
        ("app/pub.pem", b"-----BEGIN PUBLIC KEY-----\nMIIEow"),
        ("app/tokenizer_config.json", b'{"pad_token": "<pad>", "sep_token": "[SEP]"}'),
        ("app/page.html", b'<div class="sk-estimator-doc-link sk-toggleable__content fitted">'),
        ("app/weights.bin", b"\0\1\2" + VALUES["github-token"].encode()),
        ("usr/lib/python3/dist-packages/x/key.pem", KEY.format("", "\n").encode()),
        ("opt/venv/lib/python3.11/site-packages/x/tests/a.key", KEY.format("", "\n").encode()),
        ("opt/conda/pkgs/x/a.key", KEY.format("", "\n").encode()),
        ("usr/local/go/src/crypto/tls/testdata/a.key", KEY.format("", "\n").encode()),
        ("app/node_modules/x/test/a.pem", KEY.format("", "\n").encode()),
        ("etc/ssl/certs/x.pem", KEY.format("", "\n").encode()),
        ("etc/ssl/private/ssl-cert-snakeoil.key", KEY.format("", "\n").encode()),
        ("etc/ssh/ssh_host_rsa_key", KEY.format("OPENSSH ", "\n").encode()),
        ("app/libs/pytz-2.dist-info/RECORD", b"x,sha256=" + VALUES["hugging-face-token"].encode()),
        ("root/.cache/uv/a/b/examples-1.json", b'{"password": "examplepass1"}'),
        ("app/vocab.json", b'{"password": 13244, "secret": 99812, "token": 4444}'),
        ("app/de.json", b'{"password": "Passwort", "api_key": "Ihr Schl\xc3\xbcssel"}'),
        ("app/k8s.yaml", b"secret: db-credentials-1\npassword: ${DB_PASSWORD:-x1234567}\n"),
        ("app/tests/config.yml", b"password: hunter22x\n"),
        ("etc/nsswitch.conf", b"passwd: files systemd\n"),
        ("app/openapi.json", b'{"password": {"type": "string"}, "api_key": "X-Api-Key-V2 header"}'),
    ],
)
def test_a_file_that_keeps_none(path, data):
    assert finds(Config(), {path: data}) == []


def test_examples_of_a_package_installed_anywhere_are_none():
    """`pip install --target`; the program's own files beside it are looked into."""
    key = KEY.format("", "\n").encode()
    layer = {"app/libs/tornado-6.1.dist-info/METADATA": b"Name: tornado\n"}
    assert finds(Config(), {**layer, "app/libs/tornado/test/test.key": key}) == []
    (finding,) = finds(Config(), {**layer, "app/libs/mine/deploy.key": key})
    assert finding.subject == "/app/libs/mine/deploy.key"


def test_what_a_later_layer_removes_or_replaces_is_still_in_the_image():
    first = {"app/deploy": KEY.format("", "\n").encode(), "app/.env": b"A_TOKEN=abcdef123456\n"}
    second = {"app/.wh.deploy": b"", "app/.env": b"A_TOKEN=\n"}
    found = finds(Config(), first, second)
    assert [finding.subject for finding in found] == ["/app/deploy", "/app/.env"]
    assert "a later layer removes it" in found[0].what


@pytest.mark.slow
def test_data_that_would_keep_a_careless_pattern_busy_is_judged_at_once():
    """Each would take minutes with a pattern that tries every start again to the file's end."""
    size = 2**16
    for unit in (
        b"xoxb-",
        b"eyJ-",
        b"curl ",
        b"a://",
        b"a",
        b'x="',
        b"{{",
        b"a:b@",
        b"ABSK-",
        b"= ",
    ):
        data = (unit * size)[:size] + b"!"
        assert finds(Config(), {"app/.env": data, "root/.cache/huggingface/token": data}) == []


def test_one_finding_is_ignored_and_the_others_stay():
    image = Image(
        reference="x",
        source="archive",
        config=Config(environment={"A_PASSWORD": "hunter2", "B_PASSWORD": "hunter3"}),
    )

    def left(ignored: dict[str, str]) -> list[str]:
        found = apply(secrets.RULES, Subject(image, frozenset()), ignored)
        return [finding.subject for finding in found if not finding.ignored]

    assert left({"SEC001:A_PASSWORD": "for tests"}) == ["B_PASSWORD"]
    assert left({"SEC001:*_PASSWORD": "for tests"}) == []
    assert left({"SEC001": "for tests"}) == []
    assert left({"SEC002:A_PASSWORD": "x", "SEC001:A": "x"}) == ["A_PASSWORD", "B_PASSWORD"]


def test_the_project_file_names_one_finding_or_a_rule(tmp_path):
    path = tmp_path / "pyproject.toml"
    keys = {"SEC001:A_PASSWORD": "for tests", "IMG003": "Graviton"}
    lines = [f'"{key}" = "{reason}"' for key, reason in keys.items()]
    path.write_text("\n".join(["[tool.byoc.check.ignore]", *lines]))
    assert read_ignored(path) == keys
    path.write_text('[tool.byoc.check.ignore]\n"SEC999:A" = "x"\n')
    with pytest.raises(RequestError, match="there is no rule SEC999"):
        read_ignored(path)
