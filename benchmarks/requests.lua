-- wrk -s requests.lua URL -- FILE: sends the requests of FILE one after another, and then again.
-- Each stands there whole, behind a line with its size in bytes: no work is left for each request.
local requests, count, at = {}, 0, 0

function init(args)
   local file = assert(io.open(args[1], "rb"))
   local size = file:read("*l")
   while size do
      count = count + 1
      requests[count] = file:read(tonumber(size))
      size = file:read("*l")
   end
   file:close()
end

function request()
   at = at % count + 1
   return requests[at]
end
