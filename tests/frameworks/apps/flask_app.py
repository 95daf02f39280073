"""Flask with Flask-Session; LOGIN=flask-login logs in as that package does.

Environment: PORT, REDIS_PORT, SERIALIZER (Flask-Session 0.8: msgpack or json), SIGNER (1: the identifier is signed),
SESSION_SECRET, LOGIN.
"""

import os

import flask
import flask_session
import redis

env = os.environ
app = flask.Flask(__name__)
app.config.update(
    SECRET_KEY=env["SESSION_SECRET"],
    SESSION_TYPE="redis",
    SESSION_REDIS=redis.Redis(port=int(env["REDIS_PORT"])),
    SESSION_USE_SIGNER=env.get("SIGNER") == "1",
)
if "SERIALIZER" in env:
    app.config["SESSION_SERIALIZATION_FORMAT"] = env["SERIALIZER"]
flask_session.Session(app)

if env.get("LOGIN") == "flask-login":
    import flask_login

    class User(flask_login.UserMixin):
        id = "7"

    flask_login.LoginManager(app).user_loader(lambda known: User() if known == User.id else None)

    def login():
        flask_login.login_user(User())

    def who():
        return flask_login.current_user.get_id()

    def logout():
        flask_login.logout_user()
        flask.session.clear()

else:

    def login():
        flask.session["user_id"] = 7

    def who():
        return flask.session.get("user_id")

    def logout():
        flask.session.clear()


def said(status=200):
    user = who()
    answer = flask.jsonify(user=None if user is None else str(user), told=flask.request.headers.get("X-User-Id"))
    answer.headers["X-Answered-By"] = "app"
    return answer, status


@app.get("/visit")
def visit():
    flask.session["cart"] = ["book"]
    return said()


@app.post("/login")
def log_in():
    login()
    return said()


@app.get("/me")
def me():
    return said(200 if who() is not None else 401)


@app.post("/logout")
def log_out():
    logout()
    return said()


app.run(port=int(env["PORT"]), threaded=True)
