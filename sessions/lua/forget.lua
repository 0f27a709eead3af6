-- Purpose    A session is not wanted any more.
-- Guarantee  Final: a list that was read before this moment does not bring it back, nor does a beat. With ARGV[2] a worker
--            of ours that may still run it keeps it, unseen, until it has stopped it: so long nobody else gets it.
-- KEYS       see prelude.lua
-- ARGV       1 session  2 '1': its worker of ours must first stop it; else it has
-- Return     1, or 0 when it was not known
-- Twice      the second one finds nothing.

local record = record_of(ARGV[1])
if not record or record.leaving == '!' then return 0 end
if ARGV[2] == '1' and record.worker ~= '' and left_of(record.worker) > 0 and worker_of(record.worker).existing == 0 then
  call('ZADD', forgotten, digits(now), record.session)
  record.leaving, record.fresh = '!', 0
  save(record)
  announce(record, record.worker)
else
  forget(record)
end
return done(1)
