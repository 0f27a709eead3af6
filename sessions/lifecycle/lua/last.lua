-- Purpose    Who does just now what is due each so often, when it is due, and what came of the last run.
-- Guarantee  As of one moment; reads only.
-- KEYS       1 leader, as elect.lua has it
-- ARGV       none
-- Return     {now, who or '', when it is due or '', when the last run ended or '', what came of it (JSON) or ''}
-- Twice      is a second look.

local name, ends, due, at, last = unpack(call('HMGET', KEYS[1], 'name', 'until', 'due', 'at', 'last'))
local held = name and name ~= '' and tonumber(ends) > now
return {string.format('%.0f', now), held and name or '', due or '', at or '', last or ''}
