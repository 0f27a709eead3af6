-- Purpose    Is another session of this workspace connected with this phone?
-- Guarantee  One answer as of one moment; reads only.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 its workspace  3 its phone
-- Return     that session, or nil
-- Twice      is a second look.

local prefix = phone_prefix({workspace = ARGV[2], phone = ARGV[3]})
if not prefix then return false end
local from, to = range_of(prefix)
for _, member in ipairs(call('ZRANGEBYLEX', phones, from, to, 'LIMIT', 0, 2)) do
  local session = string.sub(member, #prefix + 1)
  if session ~= ARGV[1] then return session end
end
return false
