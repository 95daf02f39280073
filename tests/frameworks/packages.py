"""What the apps need, installed once into a scratch folder (PyPI, npm), or on the machine (Debian)."""

import os
import pathlib
import shutil
import subprocess
import sys

from places import Failed

APPS = pathlib.Path(__file__).resolve().parent / "apps"


class Python:
    """A virtual environment with these packages."""

    def __init__(self, name, versions, *packages):
        self.name, self.versions, self.packages = name, versions, packages

    def install(self, scratch):
        folder = scratch / self.name
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            run(sys.executable, "-m", "venv", folder)
            run(folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *self.packages)
            (folder / "complete").touch()
        return folder


class Node:
    """A folder with these packages and the app, which finds them beside itself."""

    def __init__(self, name, versions, app, *packages):
        self.name, self.versions, self.app, self.packages = name, versions, app, packages

    def install(self, scratch):
        folder = scratch / self.name
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_text("{}")
            run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *self.packages)
            (folder / "complete").touch()
        shutil.copy(APPS / self.app, folder)
        return folder


class Debian:
    """Packages of the machine, which are installed if we may."""

    def __init__(self, versions, *packages):
        self.versions, self.packages = versions, packages

    def install(self, scratch):
        query = ["dpkg-query", "-W", "-f", "${db:Status-Status}\n", *self.packages]
        state = subprocess.run(query, capture_output=True, text=True)
        if state.returncode != 0 or set(state.stdout.split()) != {"installed"}:
            command = ["apt-get", "install", "--yes", "--no-install-recommends", *self.packages]
            if os.getuid() != 0:
                raise Failed("first: sudo " + " ".join(command))
            run(*command)
        return scratch


def run(*command):
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}:\n{done.stdout[-2000:]}")


FLASK = Python("flask", "Flask 3.1.3, Flask-Session 0.8.0", "flask==3.1.3", "flask-session==0.8.0",
               "flask-login==0.6.3", "redis")
FLASK_0_5 = Python("flask-0.5", "Flask 2.3.3, Flask-Session 0.5.0", "flask==2.3.3", "flask-session==0.5.0", "werkzeug==2.3.8", "redis")
DJANGO = Python("django", "Django 5.2.19, django-redis 7.0.0", "django==5.2.19", "django-redis==7.0.0", "redis")
TOKEN = Python("token", "FastAPI 0.165.0", "fastapi==0.165.0", "uvicorn", "redis")
EXPRESS = Node("express", "Express 5.3.0, express-session 1.19.0, connect-redis 9.0.0", "express_app.mjs",
               "express@5.3.0", "express-session@1.19.0", "connect-redis@9.0.0", "redis", "passport")
PHP = Debian("PHP 8.2, phpredis 5.3.7", "php-cli", "php-redis", "php-igbinary")
LARAVEL = Debian("Laravel 8.83.26", "php-cli", "php-redis", "php-mbstring", "php-xml", "php-laravel-framework")
RAILS = Debian("Rails 6.1.7.10, redis-actionpack 5.3.0", "ruby-railties", "ruby-actionpack", "ruby-redis-actionpack", "puma")
