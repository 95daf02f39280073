# Rails 6.1 of Debian, a project in one file: `puma -b tcp://127.0.0.1:PORT config.ru`.
# Environment: REDIS_PORT, STORE (redis_store of redis-actionpack, or cache_store), SERIALIZER (json), EXPIRE (seconds).

require "action_controller/railtie"
require "redis-actionpack"
require "json"

# redis-rack 2.1.2 passes these options on to redis-store 1.9.0, which asks them what only a hash knows.
class ActionDispatch::Request::Session::Options
  def key?(name) = to_hash.key?(name)
end

class Journal < Rails::Application
  config.load_defaults 6.1
  config.eager_load = false
  config.hosts.clear
  config.secret_key_base = "0" * 64
  config.log_level = :error
  config.logger = Logger.new($stderr)
  config.consider_all_requests_local = true
  life = ENV["EXPIRE"] ? { expire_after: ENV["EXPIRE"].to_i } : {}
  if ENV["STORE"] == "cache_store"
    config.cache_store = :redis_cache_store, { url: "redis://127.0.0.1:#{ENV.fetch("REDIS_PORT")}/0" }
    config.session_store :cache_store, key: "_myapp_session", **life
  else
    serializer = ENV["SERIALIZER"] == "json" ? { serializer: JSON } : {}
    server = { host: "127.0.0.1", port: ENV.fetch("REDIS_PORT"), db: 0, namespace: "session", **serializer }
    config.session_store :redis_store, servers: [server], key: "_myapp_session", **life
  end
  routes.append do
    get "/visit", to: "journal#visit"
    post "/login", to: "journal#log_in"
    get "/me", to: "journal#me"
    post "/logout", to: "journal#log_out"
  end
end

Journal.initialize!

class JournalController < ActionController::Base
  skip_forgery_protection

  def visit
    session[:cart] = ["book"]
    said
  end

  def log_in
    reset_session
    session[:user_id] = 7
    said
  end

  def me
    said(session[:user_id] ? :ok : :unauthorized)
  end

  def log_out
    reset_session
    said
  end

  private

  def said(status = :ok)
    response.headers["X-Answered-By"] = "app"
    told = request.headers["X-User-Id"]
    render json: { user: session[:user_id]&.to_s, told: told }, status: status
  end
end

run Journal
