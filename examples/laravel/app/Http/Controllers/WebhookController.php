<?php

namespace App\Http\Controllers;

use App\Jobs\HandleWebhook;
use App\WhatsApp\Webhooks;
use Illuminate\Http\JsonResponse;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Log;
use Illuminate\Support\Facades\Queue;
use Symfony\Component\HttpKernel\Exception\ServiceUnavailableHttpException;
use Throwable;

/** As such an application has it before Sluice: messages are handled while the sender waits, the rest is queued. */
class WebhookController
{
    private const INLINE = ['session_ready', 'message_received', 'message_sent', 'typing_indicator', 'chat_state_updated'];

    private const QUEUES = [
        'qr_code_generated' => 'whatsapp-urgent',
        'session_authenticated' => 'whatsapp-urgent',
        'session_disconnected' => 'whatsapp-urgent',
        'session_error' => 'whatsapp-urgent',
        'message_status_updated' => 'messaging',
        'message_delivered' => 'messaging',
        'message_read' => 'messaging',
    ];

    public function __invoke(Request $request, Webhooks $webhooks): JsonResponse
    {
        [$event, $data] = [$request->json()->all()['event'], $request->json()->all()['data']];
        $instance = $request->header('X-Instance-Url');
        if (in_array($event, self::INLINE, true)) {
            try {
                $webhooks->handle($event, $data, $instance);
            } catch (ServiceUnavailableHttpException $later) {
                throw $later; // with WHATSAPP_ASK_AGAIN alone
            } catch (Throwable $failed) {
                // It is answered 200 all the same.
                Log::error($failed->getMessage(), ['message' => $data['message']['id'] ?? null, 'exception' => $failed]);
            }

            return response()->json(['status' => 'processed_inline']);
        }
        if (isset(self::QUEUES[$event])) {
            Queue::pushOn(self::QUEUES[$event], new HandleWebhook($event, $data, $instance));

            return response()->json(['status' => 'queued']);
        }

        return response()->json(['status' => 'received']);
    }
}
