<?php

namespace App\Http\Controllers;

use App\Jobs\HandleWebhook;
use Illuminate\Http\JsonResponse;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Queue;
use Illuminate\Support\Str;

/**
 * Takes each webhook into a queue and answers at once. A session's events are in the queues of one number, and one
 * process works on these (supervisor/queues.conf), so they stay in order; what is urgent goes before the rest of it.
 */
class QueuedWebhookController
{
    public function __invoke(Request $request): JsonResponse
    {
        ['event' => $event, 'data' => $data] = $request->json()->all();
        Queue::pushOn($this->queue($event, $data['session_id']), new HandleWebhook($event, $data, $request->header('X-Instance-Url')));

        return response()->json(['status' => 'queued']);
    }

    private function queue(string $event, string $session): string
    {
        $lane = match (true) {
            $event === 'qr_code_generated', Str::startsWith($event, 'session_') => 'whatsapp-urgent',
            Str::startsWith($event, 'message_') => 'messaging',
            default => 'bulk',
        };

        return $lane.'-'.crc32($session) % config('whatsapp.queue_workers');
    }
}
