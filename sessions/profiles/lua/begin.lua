-- Purpose    A number for a new generation, under which its chunks are written before it counts.
-- Guarantee  No number is given twice.
-- KEYS       see generations.lua
-- ARGV       1 session  2 fence, or '': the next one is taken
-- Return     {fence, number} | 'stale': a later start has it | 'deleted': its login was, since this start
-- Twice      gives a second number; what was written under the first is left to `prune`.

local record = record_of(ARGV[1])
local fence = tonumber(ARGV[2])
if not fence then fence = next_fence()
elseif fence < record.fence then return 'stale'
elseif fence <= record.gone then return 'deleted' end
record.fence, record.begun = fence, record.begun + 1
save(ARGV[1], record)
return {digits(fence), record.begun}
