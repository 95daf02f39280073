#!/bin/sh
# Installs what the tests need and is missing: redis-server. Does nothing the second time.
set -eu

if command -v redis-server >/dev/null 2>&1; then
    exit 0
fi

give_up() {
    echo "The tests need redis-server (7.0 or newer), and $1." >&2
    echo "Install it by hand, so that 'redis-server --version' works, and run this again." >&2
    exit 1
}

# Runs a command as root.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        give_up "neither root nor sudo is there to install it ('$*')"
    fi
}

echo "redis-server is missing: installing it."
if command -v apt-get >/dev/null 2>&1; then
    # Debian starts a server when the package is installed; the tests start their own.
    as_root apt-get update || give_up "'apt-get update' failed"
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y --no-install-recommends redis-server || give_up "'apt-get install redis-server' failed"
elif command -v dnf >/dev/null 2>&1; then
    # Newer Fedora has valkey in its place, which brings the old names along.
    as_root dnf install -y redis || as_root dnf install -y valkey-compat-redis || give_up "'dnf install redis' failed"
elif command -v brew >/dev/null 2>&1; then
    brew install redis || give_up "'brew install redis' failed"
else
    give_up "none of apt-get, dnf and brew is there to install it"
fi

command -v redis-server >/dev/null 2>&1 || give_up "it is still not found after installing it (PATH is $PATH)"
redis-server --version
