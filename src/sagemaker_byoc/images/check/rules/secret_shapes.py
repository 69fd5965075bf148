"""How secrets are recognized: by their shape, by the name of a variable, by the name of a file.

Shapes come from the issuers' documentation, compared with the rules of gitleaks and trufflehog.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class Shape:
    """A secret that is known by its own form; `value` may be the placeholder of an example."""

    name: str
    """Also the key that ignores it: no spaces."""
    what: str
    keywords: tuple[bytes, ...]
    """In lower case; one of them is in every text that holds such a secret."""
    pattern: re.Pattern[bytes]


def _shape(name: str, what: str, keywords: str, pattern: bytes, flags: int = 0) -> Shape:
    words = tuple(word.encode() for word in keywords.split(" "))
    return Shape(name, what, words, re.compile(pattern, flags))


SHAPES = (
    _shape(  # docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
        "aws-access-key",
        "an AWS access key",
        "akia asia abia acca a3t",
        rb"\b(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)(?![A-Z0-9]{9}EXAMPLE)[A-Z0-9]{16}\b",
    ),
    _shape(
        "aws-secret-key",
        "an AWS secret key",
        "secret",
        rb"aws_?secret_?(?:access_?)?key['\"]?\s*[=:]\s*['\"]?"
        rb"(?![A-Za-z0-9/+]{30}EXAMPLEKEY)[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])",
        re.IGNORECASE,
    ),
    _shape("aws-bedrock-key", "an Amazon Bedrock API key", "absk", rb"\bABSK[A-Za-z0-9+/]{80,}"),
    _shape(  # RFC 7468, RFC 1421, openssh's PROTOCOL.key, also as a string of JSON
        "private-key",
        "a private key",
        "private",
        rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\\r|\\n|\s)+"
        rb"(?:[A-Za-z-]+: [^\n]*\n\s*)*(?!(?i:your|replace|insert|key|xxx))[A-Za-z0-9+/=]{3,}",
    ),
    _shape(  # docs.docker.com/reference/cli/docker/login
        "docker-login",
        "a login of Docker",
        "auths",
        rb"['\"]auths['\"]\s*:.{0,500}?['\"]auth['\"]\s*:\s*['\"][A-Za-z0-9+/=]{8,}",
        re.DOTALL,
    ),
    _shape("putty-key", "a private key of PuTTY", "putty", rb"PuTTY-User-Key-File-\d:"),
    _shape("age-key", "a private key of age", "age-secret", rb"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    _shape(  # github.blog/2021-04-05-behind-githubs-new-authentication-token-formats
        "github-token",
        "a GitHub token",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        rb"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{22,})",
    ),
    _shape(  # docs.gitlab.com/security/tokens: prefixes
        "gitlab-token",
        "a GitLab token",
        "glpat- gldt- glrt- glptt- glft- glimt- glagent- gloas- glsoat- glcbt- gr1348941",
        rb"\b(?:gl(?:pat|dt|rt|rtr|ptt|ft|imt|agent|oas|soat|cbt)-|GR1348941)[\w-]{20,}",
    ),
    _shape(  # the one left out is published: transformers tests with it
        "hugging-face-token",
        "a Hugging Face token",
        "hf_ api_org_",
        rb"\b(?:hf_|api_org_)(?!94wBhPGp6KrrTH)[A-Za-z0-9]{20,}",
    ),
    _shape(
        "openai-key",
        "an OpenAI API key",
        "sk-",
        rb"\bsk-(?:(?:proj|svcacct|admin|None)-(?=[\w-]{0,99}\d)[\w-]{8,}|(?=[A-Za-z0-9]{0,99}\d)[A-Za-z0-9]{40,})",
    ),
    _shape(
        "anthropic-key", "an Anthropic API key", "sk-ant-", rb"\bsk-ant-[a-z0-9]{1,20}-[\w-]{8,}"
    ),
    _shape("openrouter-key", "an OpenRouter API key", "sk-or-", rb"\bsk-or-v1-[a-f0-9]{32,}"),
    _shape("groq-key", "a Groq API key", "gsk_", rb"\bgsk_[A-Za-z0-9]{40,}"),
    _shape("perplexity-key", "a Perplexity API key", "pplx-", rb"\bpplx-[A-Za-z0-9]{40,}"),
    _shape("replicate-token", "a Replicate token", "r8_", rb"\br8_[A-Za-z0-9]{37}\b"),
    _shape("nvidia-key", "an NVIDIA API key", "nvapi-", rb"\bnvapi-[\w-]{40,}"),
    _shape("databricks-token", "a Databricks token", "dapi", rb"\bdapi[a-f0-9]{32}\b"),
    _shape(  # api.slack.com/authentication/token-types
        "slack-token",
        "a Slack token",
        "xoxa- xoxb- xoxc- xoxd- xoxe xoxo- xoxp- xoxr- xoxs- xapp-",
        rb"\b(?:xox[abcdeoprs](?:\.xox[bp])?|xapp)-(?=[\w-]{0,99}\d)[\w-]{16,}",
    ),
    _shape(
        "slack-webhook",
        "a Slack webhook",
        "hooks.slack.com",
        rb"hooks\.slack\.com/(?:services|workflows)/T[A-Z0-9]{6,}/[A-Z0-9]{6,}/\w{16,}",
    ),
    _shape("google-api-key", "a Google API key", "aiza", rb"\bAIza[\w-]{35}(?![\w-])"),
    _shape("google-secret", "a Google OAuth secret", "gocspx-", rb"\bGOCSPX-[\w-]{20,}"),
    _shape("npm-token", "an npm token", "npm_", rb"\bnpm_[A-Za-z0-9]{36}\b"),
    _shape("pypi-token", "a PyPI token", "pypi-age", rb"\bpypi-AgE[\w-]{30,}"),
    _shape("docker-token", "a Docker Hub token", "dckr_", rb"\bdckr_[po]at_[\w-]{20,}"),
    _shape(
        "stripe-key", "a Stripe key", "sk_ rk_", rb"\b[sr]k_(?:live|test|prod)_[A-Za-z0-9]{16,}"
    ),
    _shape("sendgrid-key", "a SendGrid key", "sg.", rb"\bSG\.[\w-]{16,}\.[\w-]{16,}"),
    _shape("vault-token", "a Vault token", "hvs. hvb.", rb"\bhv[sb]\.[\w-]{24,}"),
    _shape("doppler-token", "a Doppler token", "dp.", rb"\bdp\.(?:pt|st|ct)\.[\w.-]{30,}"),
    _shape("digitalocean-token", "a DigitalOcean token", "_v1_", rb"\bdo[opr]_v1_[a-f0-9]{64}\b"),
    _shape(
        "grafana-token", "a Grafana token", "glsa_ glc_", rb"\b(?:glsa|glc)_[A-Za-z0-9_+/=]{32,}"
    ),
    _shape("atlassian-token", "an Atlassian token", "atatt3", rb"\bATATT3[\w=-]{60,}"),
    _shape("linear-key", "a Linear API key", "lin_api_", rb"\blin_api_[A-Za-z0-9]{30,}"),
    _shape(  # learn.microsoft.com/azure/storage/common/storage-configure-connection-string
        "azure-key",
        "an Azure key",
        "accountkey= sharedaccesskey= sharedsecret=",
        rb"(?:AccountKey|SharedAccessKey|SharedSecret)=(?!Eby8vdM02xNO)[A-Za-z0-9+/%]{20,}={0,2}",
        re.IGNORECASE,
    ),
    _shape(
        "azure-signature",
        "an Azure access signature",
        "sig=",
        rb"(?<![A-Za-z])s[vkretp]=[^\s'\"]{1,300}?&sig=[A-Za-z0-9%+/]{30,}",
    ),
    _shape(
        "azure-secret", "an Azure client secret", "q~", rb"(?<![\w~.-])[\w~.]{3}\dQ~[\w~.-]{31,34}"
    ),
    _shape(  # RFC 7519; the signature is jwt.io's example
        "json-web-token",
        "a JSON Web Token",
        "eyj",
        rb"\beyJ[\w-]{10,400}\.eyJ[\w-]{10,4000}\.(?!SflKxwRJSMeKKF2QT4)[\w-]{16,}",
    ),
    _shape(
        "authorization",
        "an Authorization header",
        "authorization",
        rb"authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)\s+(?=[\w.~+/=-]{0,99}\d)"
        rb"[\w.~+/=-]{16,}",
        re.IGNORECASE,
    ),
)
_URL = re.compile(
    rb"\b(?P<scheme>[a-z][a-z0-9+.-]{1,24})://(?P<user>[^\s/:@'\"<>{}$\\]*):"
    rb"(?P<password>[^\s/@'\"<>\\]{1,200})@(?P<host>[\w.-]+)",
    re.IGNORECASE,
)
URL = Shape("url-password", "a password in a URL", (b"://",), _URL)
_EXAMPLE_HOST = re.compile(r"^(localhost|127\..*|.*example\.?(com|org|net)?)$")
_PLACEHOLDER = re.compile(
    r"""^(
        | [$%<{\[].* | .*\$[{(].* | .*\{\{.*\}\}.* | .*<[\w\s|/-]+>.* | \*+ | \.{2,}.* | .*\.{3} |
        (.)\2{2,} | x+[-_]?x+.* |
        .*(change|replace|fill|insert|set)[-_ ]?(me|this|it|in|your|here).* |
        .*\b(your|the)[-_ ].* | .*\bmy[-_ ]\D* | (my|your|the)(pass(word)?|secret|token|key)s? |
        .*(example|placeholder|dummy|redacted|sample|fixme|todo).* |
        (not|to)[-_ ]?be?[-_ ]?(set|used|needed|defined|provided|filled|changed)? |
        (un|not[-_ ])?(set|known|defined|used)(now)? | none | null | nil | n/?a | default | empty |
        true | false | yes | no | on | off | enabled? | disabled? | auto | required | optional |
        test(ing)? | foo | bar | baz | fake.* | hidden | never | always
    )$""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_WORD = re.compile(
    r"^(pass(word)?|passwd|pwd|secret(s|[-_]?key)?|token|(api[-_]?)?key|credentials?|user(name)?)$",
    re.IGNORECASE,
)
"""What examples have in the place of a secret; in a configuration it may be a poor one."""
_USER = re.compile(r"^(user(name)?)?$", re.IGNORECASE)
_REFERENCE = re.compile(
    r"^(/|\./|\.\./|~|file:|arn:|s3:|gs:|https?:|ssm:|vault:|secret(smanager)?:|projects/|op://|"
    r"env:|ssh-(rsa|ed25519|dss)\s|ecdsa-sha2|-----BEGIN (CERTIFICATE|(RSA )?PUBLIC))|^[a-zA-Z]:\\"
)
"""Where a secret is, or what is public; not the secret itself."""
_NAME_END = r"(_(BASE|VALUE|B64|BASE64))?(_?\d+)?$"
_STRONG_NAME = re.compile(
    r"((PASSWORD|PASSWD|PASSPHRASE|PASSCODE)|(^|_)(PASS|PWD|PW|SECRET)"
    r"|(SECRET|PRIVATE|ENCRYPTION|SIGNING|MASTER|SECRET_ACCESS|ACCOUNT)_?KEY)" + _NAME_END
)
_WEAK_NAME = re.compile(
    r"((^|_)(KEY|TOKEN|PAT|CREDENTIALS?|CREDS?|AUTH)|(API|ACCESS|AUTH|LICENSE)_?(KEY|TOKEN))"
    + _NAME_END
)
_EXPLICIT_NAME = re.compile(r"(API|ACCESS|AUTH|BEARER|REFRESH|SESSION)_?(KEY|TOKEN)" + _NAME_END)
"""Names of nothing but secrets: words will do."""
_PUBLIC_NAME = re.compile(
    r"(^|_)(GPG|PGP|APT|RPM|PUBLIC|PUB|PUBLISHABLE|HOST|PRIMARY|FOREIGN|PARTITION|SORT|CACHE|OBJECT|S3"
    r"|FINGERPRINT|MODEL|FEATURE|DATA|IMAGE|TEXT|LABEL|INPUT|OUTPUT|TARGET|SHUFFLE|HASH|ROW|COLUMN"
    r"|INDEX|GROUP|ROUTING|JOIN|METRIC|CONFIG|STATE|QUERY|TAG|TOPIC|MESSAGE|SPLIT)_KEY$"
    r"|^(N|NUM|MAX|MIN|FIRST|SECOND|LAST|SINGLE)_PASS(ES)?$"
    r"|^(OLD)?PWD$|^(PAD|BOS|EOS|UNK|CLS|SEP|MASK|STOP|START|END|SPECIAL|IMAGE|SYSTEM)_TOKEN$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_STRONG_LENGTH = 3
_WEAK_LENGTH = 8
_NUMBER_LENGTH = 4
_LOOKED_AT = 300
_TEXT_LIMIT = 2**18
_SWITCHES = 2
"""Changes between letters and digits in a word, from which on it is not a word with a number."""
_ASSIGNMENT = re.compile(
    r"""(?:^|[\s;&|'"(,{:#])(?:-{1,2}|-D)?(?P<name>[A-Za-z_][\w.-]*)["']?
    (?:=|[ \t]*:[ \t]+|(?<=["'])[ \t]*:|[ \t]+=[ \t]*)
    (?P<value>"[^"\n]*"|'[^'\n]*'|[^\s;&|'"]+)""",
    re.VERBOSE | re.MULTILINE,
)
_CONNECTION = re.compile(r";\s*(?P<name>Password|Pwd)\s*=\s*(?P<value>[^;'\"\s]+)", re.IGNORECASE)
_DEFINED = re.compile(r"define\(\s*['\"](?P<name>\w+)['\"]\s*,\s*(?P<value>'[^'\n]*'|\"[^\"\n]*\")")
_OPTION = re.compile(
    r"\s--?(?P<name>[a-z][\w-]*)[ ](?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s;&|'\"-][^\s;&|'\"]*)"
)
_KEYRING = re.compile(r"\b(gpg|apt-key|rpm --import|keyserver)\b")
_FINGERPRINT = re.compile(r"^(0x)?([0-9A-Fa-f]{4}\s?){2,10}$")
"""Fingerprint of a public key; commands that install packages fetch the key by it."""
_LOGINS = {
    "mysql -p": re.compile(r"\bmysql\w*\b[^|;&\n]{0,500}?\s-p(?P<value>[^\s'\"]+)"),
    "wandb login": re.compile(r"\bwandb\s+login\s+(?:--\S+\s+)*(?P<value>[0-9a-f]{40,})"),
    "chpasswd": re.compile(
        r"\becho\s+['\"]?[\w.-]+:(?P<value>[^\s'\"|]+)['\"]?\s*\|\s*(?:sudo\s+)?chpasswd\b"
    ),
    "docker login": re.compile(
        r"\becho\s+['\"]?(?P<value>[^\s'\"|]+)['\"]?\s*\|\s*docker\s+login\b"
    ),
    "aws configure": re.compile(
        r"\baws\s+configure\s+set\s+\S*(?:secret_access_key|session_token)\s+(?P<value>\S+)"
    ),
    "_authToken": re.compile(r"_authToken[\s=]+(?P<value>[^\s'\"]+)"),
    "kaggle config": re.compile(r"\bkaggle\s+config\s+set\s+-n\s+key\s+-v\s+(?P<value>\S+)"),
    "poetry config": re.compile(
        r"\bpoetry\s+config\s+(?:http-basic\.\S+\s+\S+|pypi-token\.\S+)\s+(?P<value>\S+)"
    ),
    "curl --user": re.compile(
        r"\bcurl\b[^|;&\n]{0,500}?\s(?:-u|--user)[ =]?['\"]?[^\s:'\"$]+:(?P<value>[^\s'\"]+)"
    ),
    "login -p": re.compile(
        r"\b(?:login|sshpass)\b[^|;&\n]{0,500}?\s-p[ =]?['\"]?(?P<value>[^\s'\"]+)"
    ),
    "netrc": re.compile(
        r"\blogin\s{1,9}[^\s'\"]{1,99}\s{1,9}password\s{1,9}['\"]?(?P<value>[^\s'\"\\]+)"
    ),
}


def in_data(data: bytes, *, strict: bool = True) -> list[Shape]:
    """Return the shapes of the secrets in `data`; strict for code and prose, with its examples."""
    lower = data.lower()
    found = [
        shape
        for shape in SHAPES
        if any(word in lower for word in shape.keywords) and shape.pattern.search(data)
    ]
    if b"://" in lower and any(_is_login(match, strict=strict) for match in _URL.finditer(data)):
        found.append(URL)
    return found


def _is_login(match: re.Match[bytes], *, strict: bool) -> bool:
    user = match["user"].decode(errors="replace")
    password = unquote(match["password"].decode(errors="replace"))
    if is_placeholder(password) or (_WORD.match(password) and (strict or _USER.match(user))):
        return False
    if not strict:
        return True
    host = match["host"].decode(errors="replace").lower()
    usual = re.search(r"\d", password) and not re.search(r"[\s,:]", password)
    return bool(usual) and not _EXAMPLE_HOST.match(host)


def is_placeholder(value: str) -> bool:
    """Tell whether `value` stands for a secret that is given elsewhere, or is not one."""
    return _PLACEHOLDER.match(value[:_LOOKED_AT]) is not None


def is_secret(name: str, value: str) -> bool:
    """Tell whether a variable holds a secret, by its name and the randomness of its value."""
    name = _spelled(name)
    if is_placeholder(value) or _REFERENCE.match(value) or _PUBLIC_NAME.search(name):
        return False
    if _STRONG_NAME.search(name):
        return _is_password(name, value)
    if _EXPLICIT_NAME.search(name) and re.fullmatch(r"[^<>\[\]{}|\s]{8,}", value):
        return True
    return _WEAK_NAME.search(name) is not None and _is_token(value)


def _spelled(name: str) -> str:
    """Return a name as variables are spelled: apiKey, api-key and api.key are API_KEY."""
    return re.sub(r"[-.]", "_", _CAMEL.sub("_", name)).upper()


def _is_password(name: str, value: str) -> bool:
    if value.isdecimal():
        return len(value) >= _NUMBER_LENGTH
    words = re.fullmatch(r"[a-z]+([-_.][a-z]+)+", value)  # the name of a secret, as Kubernetes has
    own = value.upper() in name.split("_")
    return len(value) >= _STRONG_LENGTH and not words and not own


def _is_token(value: str) -> bool:
    if len(value) < _WEAK_LENGTH or re.search(r"[<>\[\]{}|\s]", value):
        return False
    pieces = [piece for piece in re.split(r"[^A-Za-z0-9]+", value) if piece]
    if len(pieces) == 1 and pieces[0] == value:
        return _has_both(value)
    mixed = len(re.findall(r"\d[A-Za-z]", value)) > _SWITCHES
    return mixed or any(_is_random(piece) for piece in pieces)


def _is_random(piece: str) -> bool:
    switches = len(re.findall(r"\d(?=[A-Za-z])|[A-Za-z](?=\d)", piece))
    return len(piece) >= _WEAK_LENGTH and switches >= _SWITCHES


def assigned(text: str) -> Iterator[str]:
    """Yield the names of variables and options in `text` that get a secret."""
    text = text[:_TEXT_LIMIT]
    imports_keys = _KEYRING.search(text) is not None
    for pattern in (_ASSIGNMENT, _OPTION):
        for match in pattern.finditer(text):
            value = match["value"].strip("'\"")
            public = imports_keys and _FINGERPRINT.match(value)
            if not public and is_secret(match["name"], value):
                yield match["name"]
    for name, pattern in _LOGINS.items():
        if any(not _is_given(match["value"]) for match in pattern.finditer(text)):
            yield name


def redacted(text: str) -> str:
    """Return a command line with three stars in the place of its secrets."""
    data = text.encode()
    for shape in in_data(data, strict=False):
        data = shape.pattern.sub(b"***", data)
    text = data.decode(errors="replace")
    for pattern in (_ASSIGNMENT, _OPTION):
        text = pattern.sub(_without_value, text)
    for pattern in _LOGINS.values():
        text = pattern.sub(lambda match: match[0].replace(match["value"], "***"), text)
    return text


def _without_value(match: re.Match[str]) -> str:
    secret = is_secret(match["name"], match["value"].strip("'\""))
    return match[0].replace(match["value"], "***") if secret else match[0]


def _is_given(value: str) -> bool:
    """Tell whether a value comes from elsewhere: a placeholder, a variable, a path."""
    return is_placeholder(value) or value.startswith("$") or _REFERENCE.match(value) is not None


@dataclass(frozen=True, slots=True)
class Store:
    """A file that a tool keeps its secret in, known by its path."""

    path: re.Pattern[str]
    content: re.Pattern[bytes]
    """What a file with a secret holds; its group `value` may be a placeholder."""


def _store(path: str, content: bytes) -> Store:
    return Store(re.compile(rf"(^|/)({path})$"), re.compile(content, re.IGNORECASE))


_VALUE = rb"['\"]?(?P<value>[^\s'\",]+)"
STORES = (
    _store(r"\.aws/[^/]+", rb"aws_(?:secret_access_key|session_token)\s*=\s*" + _VALUE),
    _store(r"[._]netrc", rb"\bpassword\s+" + _VALUE),
    _store(r"\.pypirc", rb"\bpassword\s*[=:]\s*" + _VALUE),
    _store(r"\.npmrc", rb"_(?:auth|authToken|password)\s*=\s*" + _VALUE),
    _store(r"\.yarnrc(\.yml)?", rb"npmAuth(?:Token|Ident):\s*" + _VALUE),
    _store(r"\.git-credentials|\.config/git/credentials", rb"://[^:\s]*:(?P<value>[^@\s]+)@"),
    _store(r"\.git/config|\.gitconfig", rb"://[^/\s:@]*:(?P<value>[^@\s/]+)@"),
    _store(r"\.git/config|\.gitconfig", rb"://(?P<value>[0-9a-f]{40}|[A-Za-z0-9]{36,200})@"),
    _store(r"\.git/config|\.gitconfig", rb"extraheader\s*=\s*authorization:\s*\w+\s+" + _VALUE),
    _store(
        r"(\.docker/config\.json|\.dockercfg|containers/auth\.json)",
        rb"\"(?:auth|identitytoken|registrytoken)\"\s*:\s*\"(?P<value>[^\"]+)\"",
    ),
    _store(r"kaggle\.json", rb"\"key\"\s*:\s*\"(?P<value>[^\"]+)\""),
    _store(r"\.?huggingface/(token|stored_tokens)", rb"(?<!\w)(?P<value>\w{8,})\s*\Z"),
    _store(r"wandb/settings|\.comet(ml)?\.config", rb"\bapi_key\s*=\s*" + _VALUE),
    _store(r"\.mlflow/credentials|\.snowsql/config", rb"password\s*=\s*" + _VALUE),
    _store(r"\.mc/config\.json", rb"\"secretKey\"\s*:\s*\"(?P<value>[^\"]+)\""),
    _store(r"clearml\.conf", rb"\bsecret_key\"?\s*[=:]\s*" + _VALUE),
    _store(r"credentials\.tfrc\.json", rb"\"token\"\s*:\s*\"(?P<value>[^\"]+)\""),
    _store(
        r"\.?composer/auth\.json",
        rb"(?:oauth\"\s*:\s*\{[^}]*?:|\"password\"\s*:)\s*\"(?P<value>[^\"]+)\"",
    ),
    _store(r"\.subversion/auth/.*", rb"\npassword\nV \d+\n(?P<value>[^\n]+)"),
    _store(r"\.condarc", rb"/t/(?P<value>[\w-]{16,})/"),
    _store(r"\.pgpass", rb"(?m)^[^#:\n]+:[^:\n]*:[^:\n]*:[^:\n]*:(?P<value>\S+)"),
    _store(r"\.my\.cnf", rb"\bpassword\s*=\s*" + _VALUE),
    _store(r"(\.databrickscfg|\.cargo/credentials(\.toml)?)", rb"\btoken\s*=\s*" + _VALUE),
    _store(r"\.(s3cfg|boto)", rb"\b(?:secret_key|aws_secret_access_key)\s*=\s*" + _VALUE),
    _store(r"rclone\.conf", rb"\b(?:pass|secret_access_key|client_secret|token)\s*=\s*" + _VALUE),
    _store(r"\.kube/config", rb"\b(?:token|client-key-data|password):\s*" + _VALUE),
    _store(r"\.config/gh/hosts\.yml", rb"\boauth_token:\s*" + _VALUE),
    _store(r"\.vault-token", rb"(?P<value>\S{8,})"),
    _store(r"\.gem/credentials", rb":\w+:\s*" + _VALUE),
    _store(r"\.m2/settings\.xml", rb"<password>(?P<value>[^<]+)<"),
    _store(r"gcloud/[^/]+\.json", rb"\"(?:refresh_token|private_key)\"\s*:\s*\"(?P<value>[^\"]+)"),
    _store(
        r"\.azure/[^/]+\.json",
        rb"\"(?:refreshToken|secret|accessToken)\"\s*:\s*\"(?P<value>[^\"]+)",
    ),
)
_CONFIGURATION = re.compile(
    r"\.(conf|cfg|config|ini|toml|ya?ml|json|properties|xml|php|sh|bash|tfstate)$|(^|/)\.[^/]*rc$"
)
_TRIED_OUT = re.compile(
    r"^/?etc/|(^|/)(tests?|fixtures?|testdata|examples?|samples?|docs?)/", re.IGNORECASE
)
"""Folders whose passwords open nothing; /etc has what packages install."""
_ENVIRONMENT_FILE = re.compile(r"(^|/)(\.env(\.[\w-]+)?|[\w-]+\.env|[^/]+\.tfvars|secrets\.toml)$")
_SETTINGS = re.compile(
    r"(^|/)(\.[^/.]+|[^/]+\.(env|conf|cfg|config|ini|toml|ya?ml|json|"
    r"properties|tfvars|xml))$"
)
_PROSE = re.compile(r"\.(md|rst|txt|html?)$")
_IN_PROSE = frozenset({"json-web-token", "authorization"})
"""Shapes that explanations show, with values that open nothing."""
_SAMPLE = re.compile(r"(\.|-|_|/)(example|sample|template|dist|tmpl|default)s?(\.\w+)?$")


def in_file(path: str, data: bytes) -> list[str]:
    """Return the kinds of secrets in a file."""
    shapes = in_data(data, strict=not _SETTINGS.search(path))
    prose = _PROSE.search(path) is not None
    found = [shape.what for shape in shapes if not (prose and shape.name in _IN_PROSE)]
    if found or _SAMPLE.search(path):
        return found
    if any(store.path.search(path) and _holds(store, data) for store in STORES):
        return ["a file of credentials"]
    if _ENVIRONMENT_FILE.search(path):
        names = list(assigned(data.decode(errors="replace")))
        return [f"a value of {names[0]}"] if names else []
    if _CONFIGURATION.search(path) and not _TRIED_OUT.search(path):
        names = list(_configured(data.decode(errors="replace")))
        return [f"a value of {names[0]}"] if names else []
    return []


def _configured(text: str) -> Iterator[str]:
    """Yield the names in a configuration or script that get what is certainly a secret.

    Vocabularies, schemas and translations have the same names; their values are numbers and words.
    """
    for pattern in (_ASSIGNMENT, _CONNECTION, _DEFINED):
        for match in pattern.finditer(text[:_TEXT_LIMIT]):
            name, value = match["name"], match["value"].strip("'\"")
            plain = _spelled(name)
            known = _STRONG_NAME.search(plain) or _EXPLICIT_NAME.search(plain)
            if known and _is_mixed(value) and is_secret(name, value):
                yield name


def _is_mixed(value: str) -> bool:
    """Tell whether a value has letters and digits and is not a name made of words and numbers."""
    if not re.fullmatch(r"[^\s<>()\[\]{}$]{8,512}", value) or re.fullmatch(
        r"[a-z]+\d*([-_.:/][a-z0-9]+)+", value
    ):
        return False
    return _has_both(value)


def _has_both(value: str) -> bool:
    return re.search(r"\d", value) is not None and re.search(r"[A-Za-z]", value) is not None


def _holds(store: Store, data: bytes) -> bool:
    return any(
        not is_placeholder(match["value"].decode(errors="replace"))
        for match in store.content.finditer(data)
    )
