<?php

namespace App\WhatsApp;

use Closure;
use Illuminate\Support\Facades\DB;

/** Each event once: its id and what it changes are saved in one transaction, so a crash leaves both or neither. */
class Once
{
    /** Whether it was new. A repeat that comes meanwhile waits for the first one to end. */
    public function run(string $id, Closure $handle): bool
    {
        return DB::transaction(function () use ($id, $handle): bool {
            if (DB::table('webhook_events')->insertOrIgnore(['id' => $id, 'received_at' => now()]) === 0) {
                return false;
            }
            $handle();

            return true;
        });
    }
}
