<?php

namespace App\Http\Controllers;

use App\WhatsApp\Once;
use App\WhatsApp\Webhooks;
use Illuminate\Http\JsonResponse;
use Illuminate\Http\Request;
use Throwable;

/** Many events in one signed POST: a status for each, in their order. What has a 5xx, and the rest of its session, comes again. */
class BatchWebhookController
{
    public function __invoke(Request $request, Once $once, Webhooks $webhooks): JsonResponse
    {
        $ids = explode(',', (string) $request->header('X-Sluice-Event-Ids'));
        $stopped = [];
        $statuses = [];
        foreach ($request->json()->all() as $number => ['event' => $event, 'data' => $data]) {
            if (isset($stopped[$data['session_id']])) {
                $statuses[] = 503;
                continue;
            }
            try {
                $once->run($ids[$number], fn () => $webhooks->handle($event, $data, $request->header('X-Instance-Url')));
                $statuses[] = 200;
            } catch (Throwable $failed) {
                report($failed);
                $stopped[$data['session_id']] = true;
                $statuses[] = 500;
            }
        }

        return response()->json($statuses);
    }
}
