-- What nginx does to verify a session, count a limit and answer from Redis, written as for production: one pipelined
-- trip for all three, pools of kept connections, the script by its digest; what is stored is written behind the answer.

local redis = require "nginx.redis" -- lua-resty-redis, as Debian calls it
local limit = require "limit"
local cjson = require "cjson.safe"

local job = {}

local function connect(port)
  local connection = redis:new()
  connection:set_timeout(1000)
  local connected, fault = connection:connect("127.0.0.1", port)
  if not connected then
    ngx.log(ngx.ERR, "no connection to Redis: ", fault)
    return nil
  end
  return connection
end

-- Keeps an answer for an hour; runs behind the request.
local function keep(_, port, key, content, kind)
  local connection = connect(port)
  if connection then
    connection:set(key, cjson.encode { kind = kind, stored = ngx.time() } .. "\n" .. content, "EX", 3600)
    connection:set_keepalive(60000, 256)
  end
end

-- Answers the request; `port` is that of Redis.
function job.answer(port)
  local session = ngx.var.cookie_session
  if not session or not session:find("^[%w_-]+$") then
    return ngx.exit(401)
  end
  local connection = connect(port)
  if not connection then
    return ngx.exit(503)
  end
  local key = "cache:" .. ngx.var.scheme .. "://" .. ngx.var.http_host .. ngx.var.request_uri
  local answers
  for _, ask in ipairs { limit.ask, limit.ask_whole } do
    connection:init_pipeline(3)
    connection:get("session:" .. session)
    ask(connection)
    connection:get(key)
    local fault
    answers, fault = connection:commit_pipeline()
    if not answers then
      connection:close()
      ngx.log(ngx.ERR, "Redis does not answer: ", fault)
      return ngx.exit(503)
    end
    local decided = answers[2]
    if decided[1] ~= false or not tostring(decided[2]):find("NOSCRIPT", 1, true) then
      break
    end
  end
  connection:set_keepalive(60000, 256)

  local record = answers[1] ~= ngx.null and cjson.decode(answers[1])
  if not record or not record.user_id then
    return ngx.exit(401)
  end
  limit.tell(answers[2])
  local fields, stored = ngx.header, answers[3]
  if stored ~= ngx.null then
    local head, content = stored:match("^([^\n]*)\n(.*)$")
    head = head and cjson.decode(head)
    if head then
      fields["Content-Type"], fields["Content-Length"] = head.kind, #content
      fields["Cache-Control"], fields["Age"] = "public, max-age=3600", ngx.time() - head.stored
      fields["X-Cache"] = "HIT"
      return ngx.print(content)
    end
  end
  ngx.req.set_header("X-User-Id", record.user_id)
  local answer = ngx.location.capture("/app" .. ngx.var.request_uri)
  ngx.status = answer.status
  for name, value in pairs(answer.header) do
    fields[name] = value
  end
  fields["X-Cache"] = "MISS"
  if answer.status == 200 and not answer.truncated then
    ngx.timer.at(0, keep, port, key, answer.body, answer.header["Content-Type"])
  end
  ngx.print(answer.body)
end

return job
