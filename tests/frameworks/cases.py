"""Which apps there are: how each is started, and what its operator writes into `[session.NAME]`."""

import dataclasses
import sys

import packages

SECRET = "the-secret-of-a-test-app"
SECRETS = 'secrets = [{ env = "SESSION_SECRET" }]'
# 32 bytes, as `php artisan key:generate` writes them.
APP_KEY = "base64:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@dataclasses.dataclass
class Case:
    """One app in one of its configurations."""

    name: str
    versions: str
    session: list
    command: object  # of the packages' folder, the app's port and Redis'
    needs: object
    environment: dict = dataclasses.field(default_factory=dict)
    secret: str = SECRET
    carrier: str = "cookie"


def forward(path):
    return f'forward = {{ X-User-Id = "{path}" }}'


def python(app):
    return lambda folder, port, redis: [folder / "bin" / "python", packages.APPS / app]


def flask(name, session=(), user="user_id", old=False, **environment):
    needs = packages.FLASK_0_5 if old else packages.FLASK
    return Case(f"flask-{name}", needs.versions, ['format = "flask"', *session, forward(user)], python("flask_app.py"), needs,
                environment)


def django(name, session=(), **environment):
    lines = ['format = "django"', *session, forward("_auth_user_id")]
    return Case(f"django-{name}", packages.DJANGO.versions, lines, python("django_app.py"), packages.DJANGO,
                {"ENGINE": "cache", "BACKEND": "builtin"} | environment)


def express(name, user="user_id", secret=SECRET, secrets=SECRETS, **environment):
    def command(folder, port, redis):
        return ["node", folder / "express_app.mjs"]

    return Case(f"express-{name}", packages.EXPRESS.versions, ['format = "express"', secrets, forward(user)], command,
                packages.EXPRESS, environment, secret)


def php(handler, session=()):
    def command(folder, port, redis):
        settings = ["session.save_handler=redis", f"session.save_path=tcp://127.0.0.1:{redis}",
                    f"session.serialize_handler={handler}"]
        return ["php", *(f"-d{setting}" for setting in settings), "-S", f"127.0.0.1:{port}", packages.APPS / "php_app.php"]

    return Case(handler.replace("_", "-"), packages.PHP.versions, ['format = "php"', *session, forward("user_id")], command,
                packages.PHP)


def laravel(name, session=(), **environment):
    def command(folder, port, redis):
        return ["php", "-S", f"127.0.0.1:{port}", packages.APPS / "laravel_app.php"]

    user = "login_web_59ba36addc2b2f9401580f014c7f58ea4e30989d"
    return Case(f"laravel-{name}", packages.LARAVEL.versions, ['format = "laravel"', SECRETS, *session, forward(user)], command,
                packages.LARAVEL, {"CIPHER": "AES-256-CBC", "APP_KEY": APP_KEY} | environment, APP_KEY)


def rails(name, session=(), **environment):
    def command(folder, port, redis):
        return ["puma", "-q", "-t", "1:4", "-b", f"tcp://127.0.0.1:{port}", packages.APPS / "rails" / "config.ru"]

    lines = ['format = "rails"', 'from = ["cookie:_myapp_session"]', *session, forward("user_id")]
    return Case(f"rails-{name}", packages.RAILS.versions, lines, command, packages.RAILS, environment)


def token(store, carrier, place):
    lines = [f'format = "{store}"', f'from = ["{place}"]', forward("user_id")]
    return Case(f"token-{store}-{carrier}", packages.TOKEN.versions, lines, python("token_app.py"), packages.TOKEN,
                {"STORE": store}, carrier=carrier)


CASES = [
    token("hash", "bearer", "bearer"),
    token("json", "cookie", "cookie:session_token"),
    token("json", "query", "query:token"),
    flask("msgpack", SERIALIZER="msgpack"),
    flask("json", SERIALIZER="json"),
    flask("msgpack-signed", [SECRETS], SERIALIZER="msgpack", SIGNER="1"),
    flask("json-signed", [SECRETS], SERIALIZER="json", SIGNER="1"),
    flask("login", user="_user_id", LOGIN="flask-login"),
    flask("old-pickle", old=True),
    flask("old-pickle-signed", [SECRETS], old=True, SIGNER="1"),
    express("default"),
    express("visitors", VISITORS="1"),
    express("passport", user="passport.user", LOGIN="passport"),
    # The app signs with its first secret; the operator of sidegate has not heard of the newest yet.
    express("rotated", secret=f"{SECRET},an-older-one",
            secrets='secrets = ["one-that-comes-soon", "the-secret-of-a-test-app", "an-older-one"]'),
    django("builtin"),
    django("cached-db", ['prefix = ":1:django.contrib.sessions.cached_db"'], ENGINE="cached_db"),
    django("redis-pickle", BACKEND="django-redis"),
    django("redis-json", BACKEND="django-redis", SERIALIZER="json"),
    django("redis-zlib", BACKEND="django-redis", COMPRESSOR="zlib"),
    php("php"),
    php("php_serialize", ['serialize_handler = "php_serialize"']),
    php("php_binary", ['serialize_handler = "php_binary"']),
    php("igbinary", ['serialize_handler = "igbinary"']),
    laravel("cbc"),
    laravel("gcm", ['cipher = "AES-256-GCM"'], CIPHER="AES-256-GCM"),
    laravel("encrypted", ENCRYPT="1"),
    rails("redis-store"),
    rails("redis-store-json", SERIALIZER="json", EXPIRE="5400"),
    rails("cache-store", ['prefix = "_session_id:"'], STORE="cache_store", EXPIRE="5400"),
]


def chosen(names):
    """The cases that begin with one of these; all, if there are none."""
    found = [case for case in CASES if not names or any(case.name.startswith(name) for name in names)]
    if not found:
        sys.exit(f"no such app; there are: {' '.join(case.name for case in CASES)}")
    return found
