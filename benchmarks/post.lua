-- wrk -s post.lua URL -- N: a POST with N bytes of content.
function init(args)
   wrk.method = "POST"
   wrk.body = string.rep("x", tonumber(args[1]))
   wrk.headers["Content-Type"] = "application/octet-stream"
end
