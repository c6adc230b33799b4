-- The requests of a workload for wrk: see workloads.py for the marks in a body.
-- Arguments: a folder with the files `items` and `bodies`; 1 if writes are stale, else 0; how many
-- documents a request writes.

local items, bodies, stale, documents, at, verified = {}, {}, 0, 1, 1, false
local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

local function base64(text)
  local out = {}
  for from = 1, #text, 3 do
    local a, b, c = text:byte(from, from + 2)
    local bits = a * 65536 + (b or 0) * 256 + (c or 0)
    for shift = 18, c and 0 or b and 6 or 12, -6 do
      local six = math.floor(bits / 2 ^ shift) % 64
      out[#out + 1] = LETTERS:sub(six + 1, six + 1)
    end
  end
  return table.concat(out)
end

local function cut(body)
  -- The pieces of a body, and where among them which mark stands.
  local pieces, marks, from = {}, {}, 1
  for place, mark in body:gmatch("()@(%l)") do
    pieces[#pieces + 1] = body:sub(from, place - 1)
    pieces[#pieces + 1] = ""
    marks[#marks + 1] = { #pieces, mark }
    from = place + 2
  end
  pieces[#pieces + 1] = body:sub(from)
  return { pieces = pieces, marks = marks }
end

function init(args)
  stale, documents = tonumber(args[2]), tonumber(args[3])
  for line in io.lines(args[1] .. "/bodies") do
    bodies[#bodies + 1] = cut(line)
  end
  for line in io.lines(args[1] .. "/items") do
    local version, body, head = line:match("(%d+)\t(%d*)\t(.*)")
    head = head:gsub("\t", "\r\n") .. "\r\n"
    items[#items + 1] = { version = tonumber(version), body = bodies[tonumber(body)], head = head }
  end
end

function request()
  local item = items[at]
  if verified then at = at % #items + 1 end
  if not item.body then return item.head .. "\r\n" end
  local version, pieces = item.version, item.body.pieces
  local base = version - stale
  local values = {
    b = tostring(base), s = tostring(base + 1), n = tostring(version + 1),
    d = tostring(version % 2), i = string.format("%08x", version + 1),
    c = documents > 1 and base64(tostring(version * documents)) or "",
  }
  for _, mark in ipairs(item.body.marks) do pieces[mark[1]] = values[mark[2]] end
  local body = table.concat(pieces)
  -- wrk asks once only to look at the request: that one is not sent.
  if verified then item.version = version + 1 end
  verified = true
  return item.head .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'result {"requests":%d,"seconds":%f,"errors":%d,"p50_ms":%f,"p99_ms":%f}\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
