-- Purpose    Sends a session that runs on one worker of ours to another: to balance them, or as its worker is to drain.
-- Guarantee  Only while it is as it was looked at: under the same fence, in the same state, not busy meanwhile, and not on its
--            way already; and only to a worker that has room. Of moves that have a pace none before the last one's interval has
--            passed, whoever asks. Its worker stops it first; only then the other gets it.
-- KEYS       see prelude.lua; then active, unplaced and scaling, as in noted.lua
-- ARGV       1 session  2 fence  3 state  4 worker to which it goes  5 milliseconds for which it must not have been busy
--            6 interval in ms; 0: at any time  7 who asks
-- Return     'moved'; 'changed': it is not as it was; 'full': that worker has no room; 'too soon'
-- Twice      the second one finds it on its way.

local GAP = 10 * 1000
local active, scaling = KEYS[#KEYS - 3], KEYS[#KEYS - 1]
local record, to, interval = record_of(ARGV[1]), ARGV[4], tonumber(ARGV[6])
if not record or record.fence ~= tonumber(ARGV[2]) or record.state ~= ARGV[3] or not owns(record)
   or record.existing == 1 or record.leaving ~= '' or record.worker == to then return done('changed') end
local idle, noted = tonumber(ARGV[5]), tonumber(call('HGET', scaling, 'noted') or 0)
local busy = tonumber(call('ZSCORE', active, record.session) or 0)
if idle > 0 and (now - busy < idle or now - noted > GAP) then return done('changed') end
local target = worker_of(to)
if not target or target.existing == 1 or not has_room(to) then return done('full') end
if interval > 0 then
  if tonumber(call('HGET', scaling, 'next') or 0) > now then return done('too soon') end
  call('HSET', scaling, 'next', digits(now + interval))
end
call('HSET', scaling, 'moved', record.session, 'moved_from', record.worker, 'moved_to', to, 'moved_by', ARGV[7], 'moved_at', digits(now))
record.leaving = to
note(record, 'to move to ' .. to, ARGV[7])
save(record)
announce(record, record.worker)
return done('moved')
