<?php

use Illuminate\Support\Facades\Artisan;
use Illuminate\Support\Facades\DB;

Artisan::command('webhooks:prune {--days=31}', function (): void {
    $gone = DB::table('webhook_events')->where('received_at', '<', now()->subDays((int) $this->option('days')))->delete();
    $this->info("$gone ids of events are forgotten");
})->purpose('Forgets the ids of events that Sluice does not send any more (relay.retention, and a day)');
