-- Purpose    A logout, or a person: the session has no login any more. Its generations stay for a while.
-- Guarantee  From then on nothing is saved under this fence, or an older one; where the start goes on, nothing that was
--            begun before under this fence.
-- KEYS       see generations.lua
-- ARGV       1 session  2 fence; '': a person, who is always right
--            3 '1': the start goes on, and the next login of the session is saved under the same fence
-- Return     1, 0: there is none | 'stale': a later start has it, and nothing is done
-- Twice      the moment of the first one stays.

local record, known = record_of(ARGV[1])
local fence = tonumber(ARGV[2])
if fence and refused(record, fence) == 'stale' then return 'stale' end
if not known then return 0 end
if record.deleted == 0 then record.deleted = now end
record.fence = fence or next_fence()
if ARGV[3] == '1' then record.gone, record.settled = record.fence - 1, record.begun
else record.gone = record.fence end
save(ARGV[1], record)
return 1
