<?php

namespace App\WhatsApp;

use Illuminate\Support\Facades\DB;
use Illuminate\Support\Facades\Log;

/** What becomes of a webhook, wherever it is handled. */
class Webhooks
{
    public function __construct(private Workers $workers)
    {
    }

    public function handle(string $event, array $data, ?string $instance): void
    {
        match ($event) {
            'session_ready' => $this->ready($data, $instance),
            'message_received' => $this->received($data),
            'message_sent' => $this->sent($data),
            'message_status_updated' => $this->acknowledged($data),
            'qr_code_generated' => $this->account($data)->update(['status' => 'qr_scanning', 'qr_code' => $data['qr_code']]),
            'session_authenticated' => $this->account($data)->update(['status' => 'authenticated']),
            'session_disconnected' => $this->account($data)->update(['status' => 'disconnected']),
            default => null,
        };
    }

    /** Every other account of the workspace with this phone goes, even a connected one. */
    private function ready(array $data, ?string $instance): void
    {
        DB::table('whatsapp_accounts')->where('workspace_id', $data['workspace_id'])
            ->where('phone_number', $data['phone_number'])->where('session_id', '<>', $data['session_id'])
            ->update(['status' => 'failed', 'phone_number' => null, 'deleted_at' => now()]);
        $changes = ['status' => 'connected', 'phone_number' => $data['phone_number'], 'qr_code' => null];
        $this->account($data)->update($instance ? $changes + ['assigned_instance_url' => $instance] : $changes);
    }

    private function received(array $data): void
    {
        if ($this->workers->anyConnected((int) $data['workspace_id'])) {
            $this->save($data, 'message_received');
        } else {
            $message = ['message' => $data['message']['id']];
            Log::warning('A message is not saved: no worker says that an account of its workspace is connected', $message);
        }
    }

    private function sent(array $data): void
    {
        $known = DB::table('messages')->where(['event' => 'message_sent', 'message_id' => $data['message']['id']])->exists();
        if (! $known) {
            $this->save($data, 'message_sent');
        }
    }

    private function acknowledged(array $data): void
    {
        DB::table('messages')->where('message_id', $data['message_id'])->update(['status' => $data['status'] ?? null]);
    }

    private function save(array $data, string $event): void
    {
        $message = $data['message'];
        DB::table('messages')->insert([
            'session_id' => $data['session_id'],
            'event' => $event,
            'message_id' => $message['id'],
            'body' => $message['body'] ?? '',
            'at' => now(),
        ]);
    }

    private function account(array $data)
    {
        return DB::table('whatsapp_accounts')->where('session_id', $data['session_id'])->whereNull('deleted_at');
    }
}
