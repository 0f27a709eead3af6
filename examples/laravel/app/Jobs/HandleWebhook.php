<?php

namespace App\Jobs;

use App\WhatsApp\Webhooks;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Queue\InteractsWithQueue;

class HandleWebhook implements ShouldQueue
{
    use InteractsWithQueue;

    public int $tries = 3;

    public int $backoff = 5;

    public function __construct(public string $event, public array $data, public ?string $instance)
    {
    }

    public function handle(Webhooks $webhooks): void
    {
        $webhooks->handle($this->event, $this->data, $this->instance);
    }
}
