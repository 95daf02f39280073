"""FastAPI with opaque tokens in Redis, as many apps make them themselves.

Environment: PORT, REDIS_PORT, STORE: `hash` (fields) or `json` (a string). The token is taken from `Authorization: Bearer`,
from the cookie `session_token` or from the query parameter `token`.
"""

import json
import os
import secrets
import uuid

import fastapi
import redis
import uvicorn
from fastapi.responses import JSONResponse

LIFE = 3600
env = os.environ
store = redis.Redis(port=int(env["REDIS_PORT"]), decode_responses=True)
app = fastapi.FastAPI()


def create(record):
    if env["STORE"] == "hash":
        token = secrets.token_urlsafe(32)
        store.hset(f"session:{token}", mapping=record)
        store.expire(f"session:{token}", LIFE)
    else:
        token = str(uuid.uuid4())
        store.set(f"session:{token}", json.dumps(record), ex=LIFE)
    return token


def sent(request):
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token
    return request.cookies.get("session_token") or request.query_params.get("token")


def who(request):
    token = sent(request)
    if not token:
        return None
    if env["STORE"] == "hash":
        return store.hget(f"session:{token}", "user_id")
    record = store.get(f"session:{token}")
    return json.loads(record).get("user_id") if record else None


def said(request, user, status=200, token=None):
    user = None if user is None else str(user)
    content = {"user": user, "told": request.headers.get("X-User-Id"), "token": token}
    answer = JSONResponse(content, status, {"X-Answered-By": "app"})
    if token:
        answer.set_cookie("session_token", token, httponly=True)
    return answer


@app.get("/visit")
def visit(request: fastapi.Request):
    return said(request, None, token=create({"cart": "book"}))


@app.post("/login")
def log_in(request: fastapi.Request):
    return said(request, 7, token=create({"user_id": 7, "name": "Alice"}))


@app.get("/me")
def me(request: fastapi.Request):
    user = who(request)
    return said(request, user, 401 if user is None else 200)


@app.post("/logout")
def log_out(request: fastapi.Request):
    store.delete(f"session:{sent(request)}")
    return said(request, None)


uvicorn.run(app, port=int(env["PORT"]), log_level="warning")
