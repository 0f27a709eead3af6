-- Purpose    A worker of ours is to drain, or is taken back.
-- Guarantee  It gets no more sessions as long as it is to drain; what it has stays until it is moved. A process that is started
--            again under its id while its lease lives is still to drain.
-- KEYS       see prelude.lua
-- ARGV       1 worker  2 '1': it is to drain; '0': it is taken back
-- Return     1; 0: there is no such worker
-- Twice      keeps the moment of the first.

local worker = worker_of(ARGV[1])
if not worker or worker.existing == 1 then return done(0) end
local since = worker.drains or 0
if ARGV[2] == '1' and since == 0 then
  worker.drains = now
elseif ARGV[2] == '0' then
  worker.drains = 0
end
save_worker(ARGV[1], worker)
return done(1)
