-- Purpose    What a gateway remembers of alerts is kept for the others, with what it has told.
-- Guarantee  Only what was made from the newest revision is kept, so nothing of another gateway is overwritten.
-- KEYS       1 board    HASH  revision: a number that grows with each change; text: what is remembered (JSON)
--            2 history  LIST  what was told, the newest first (JSON)
-- ARGV       1 the revision from which it was made  2 text  3 how many entries of the history are kept  4... new entries
-- Return     The new revision; 0: there is a newer one, and nothing was done
-- Twice      does nothing, and returns 0; the caller finds its own text on the board then.

local board, history = KEYS[1], KEYS[2]
if (call('HGET', board, 'revision') or '0') ~= ARGV[1] then return 0 end
local revision = tonumber(ARGV[1]) + 1
call('HSET', board, 'revision', string.format('%.0f', revision), 'text', ARGV[2])
for i = 4, #ARGV do call('LPUSH', history, ARGV[i]) end
if #ARGV >= 4 then call('LTRIM', history, 0, ARGV[3] - 1) end
return revision
