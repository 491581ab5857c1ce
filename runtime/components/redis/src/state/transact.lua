-- Applies all operations or none. Per key five arguments:
--   1  what: "S" set, "D" delete, "JS" and "JD" the same on a JSON document
--   2  when: "*" always, "-" if absent, "=<version>" if that is the version
--   3  the value
--   4  "1" to mark the item as written by first-write
--   5  time to live in seconds, "0" for ever, "" unchanged
-- Answers {0, i} when operation i may not be applied, else {1, version, ...} with "" for deletions.
local function stored(key, json)
  local version, marked
  if json then
    version = redis.pcall("JSON.GET", key, ".version")
    marked = redis.pcall("JSON.GET", key, ".first-write")
  else
    local fields = redis.pcall("HMGET", key, "version", "first-write")
    if fields.err then
      return { foreign = true }
    end
    version, marked = fields[1], fields[2]
  end
  if type(version) == "table" then
    return { foreign = redis.call("EXISTS", key) == 1 }
  end
  return {
    version = version and version ~= "" and version or nil,
    marked = marked and type(marked) ~= "table" or false,
  }
end

local items = {}
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 5
  local what, when = ARGV[at + 1], ARGV[at + 2]
  local json = string.sub(what, 1, 1) == "J"
  local item = items[key]
  if not item then
    item = stored(key, json)
    item.replaced = item.foreign
    items[key] = item
  end
  local allowed
  if when == "*" then
    allowed = not item.version or not item.marked or string.sub(what, -1) == "D"
  elseif when == "-" then
    allowed = not item.version and not item.foreign
  else
    allowed = item.version == string.sub(when, 2)
  end
  if not allowed then
    return { 0, i }
  end
  if string.sub(what, -1) == "S" then
    item.version = string.format("%.0f", (tonumber(item.version) or 0) + 1)
    item.marked = item.marked or ARGV[at + 4] == "1"
  else
    item.version, item.marked = nil, false
  end
  item.foreign = nil
end

local answer = { 1 }
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 5
  local what, value, mark, ttl = ARGV[at + 1], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  if items[key].replaced then
    redis.call("DEL", key)
    items[key].replaced = nil
  end
  if what == "S" then
    redis.call("HSET", key, "data", value)
    if mark == "1" then
      redis.call("HSET", key, "first-write", 0)
    end
    answer[i + 1] = redis.call("HINCRBY", key, "version", 1)
  elseif what == "JS" then
    local version = redis.pcall("JSON.GET", key, ".version")
    local number = type(version) ~= "table" and tonumber(version) or 0
    redis.call("JSON.SET", key, "$", value)
    if mark == "1" then
      redis.call("JSON.SET", key, ".first-write", 0)
    end
    redis.call("JSON.SET", key, ".version", string.format("%.0f", number + 1))
    answer[i + 1] = number + 1
  else
    redis.call("DEL", key)
    answer[i + 1] = ""
  end
  if ttl == "0" then
    redis.call("PERSIST", key)
  elseif ttl ~= "" then
    redis.call("EXPIRE", key, ttl)
  end
end
return answer
