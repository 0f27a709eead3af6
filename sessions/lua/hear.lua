-- Purpose    What an existing worker has said of a session by itself, before it is looked at the next time.
-- Guarantee  It counts where the session is that worker's, or was last; what another one says of it does not.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 worker  3 state  4 phone; '': as it was  5 allowed moves of the state
--            6 who stays of several with one phone
-- Return     1; 0 when it is not its session
-- Twice      the second one finds it noted.

local record = record_of(ARGV[1])
if not record or record.reserved == 1 then return 0 end
if (record.worker ~= '' and record.worker or record.last) ~= ARGV[2] then return 0 end
local before, phone = record.again, ARGV[4] ~= '' and ARGV[4] or record.phone
record.again = 0
if report(record, ARGV[3], phone, '', ARGV[5], ARGV[2]) or before > 0 then
  if record.worker ~= '' then one_phone(record, ARGV[6], ARGV[2]) end
  save(record)
end
return done(1)
