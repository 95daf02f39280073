"""Django with its own authentication, sessions in a Redis cache.

Environment: PORT, REDIS_PORT, ENGINE (cache or cached_db), BACKEND (builtin or django-redis), SERIALIZER (json) and
COMPRESSOR (zlib) of django-redis, SESSION_SECRET. The working directory holds its database.
"""

import os
import socketserver
import wsgiref.simple_server

import django
from django.conf import settings

env = os.environ
cache = {
    "BACKEND": {"builtin": "django.core.cache.backends.redis.RedisCache", "django-redis": "django_redis.cache.RedisCache"}[
        env["BACKEND"]
    ],
    "LOCATION": f"redis://127.0.0.1:{env['REDIS_PORT']}/0",
    "OPTIONS": {},
}
if env.get("SERIALIZER") == "json":
    cache["OPTIONS"]["SERIALIZER"] = "django_redis.serializers.json.JSONSerializer"
if env.get("COMPRESSOR") == "zlib":
    cache["OPTIONS"]["COMPRESSOR"] = "django_redis.compressors.zlib.ZlibCompressor"

settings.configure(
    SECRET_KEY=env["SESSION_SECRET"],
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.abspath("django.sqlite3")}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    SESSION_ENGINE=f"django.contrib.sessions.backends.{env['ENGINE']}",
    CACHES={"default": cache},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.contrib import auth  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402


def said(request, status=200):
    user = str(request.user.pk) if request.user.is_authenticated else None
    told = request.headers.get("X-User-Id")
    return JsonResponse({"user": user, "told": told}, status=status, headers={"X-Answered-By": "app"})


def visit(request):
    request.session["cart"] = ["book"]
    return said(request)


def log_in(request):
    auth.login(request, auth.authenticate(request, username="alice", password="wonderland"))
    return said(request)


def me(request):
    return said(request, 200 if request.user.is_authenticated else 401)


def log_out(request):
    auth.logout(request)
    return said(request)


urlpatterns = [path("visit", visit), path("login", log_in), path("me", me), path("logout", log_out)]

call_command("migrate", verbosity=0)
if not auth.get_user_model().objects.filter(pk=7).exists():
    auth.get_user_model().objects.create_user("alice", password="wonderland", pk=7)


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


wsgiref.simple_server.make_server("127.0.0.1", int(env["PORT"]), get_wsgi_application(), Server).serve_forever()
