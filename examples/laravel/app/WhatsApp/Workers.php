<?php

namespace App\WhatsApp;

use GuzzleHttp\Exception\TransferException;
use Illuminate\Http\Client\ConnectionException;
use Illuminate\Http\Client\Response;
use Illuminate\Support\Facades\DB;
use Illuminate\Support\Facades\Http;
use Symfony\Component\HttpKernel\Exception\ServiceUnavailableHttpException;
use Throwable;

/** The calls to the workers, as they were before Sluice: only where they go is set otherwise. */
class Workers
{
    public function send(object $account, string $to, string $message): Response
    {
        $fields = ['session_id' => $account->session_id, 'recipient_phone' => $to, 'message' => $message, 'type' => 'text'];

        return Http::timeout(30)->post($this->url($account).'/api/messages/send', $this->keyed($fields));
    }

    /** After any answer that is not a 2xx the account is disconnected. */
    public function check(object $account): Response
    {
        $response = $this->status($account, 10);
        if (! $response->successful()) {
            DB::table('whatsapp_accounts')->where('id', $account->id)->update(['status' => 'disconnected']);
        }

        return $response;
    }

    /** Whether a worker says that an account of the workspace is connected: without one a message is not saved. */
    public function anyConnected(int $workspace): bool
    {
        $accounts = DB::table('whatsapp_accounts')->whereNull('deleted_at')
            ->where(['workspace_id' => $workspace, 'status' => 'connected'])->get();

        return $accounts->contains(fn (object $account): bool => $this->isConnected($account));
    }

    private function isConnected(object $account): bool
    {
        try {
            $health = $this->answered(Http::timeout(5)->get($this->url($account).'/health'));
            if (! $health->successful() || ! $health->json('sessions.connected')) {
                return false;
            }
            $status = $this->answered($this->status($account, 3));

            return ! $status->successful() || $status->json('status') === 'connected';
        } catch (ConnectionException $failed) {
            return config('whatsapp.ask_again') ? $this->askAgain($failed) : false;
        } catch (TransferException $failed) {
            throw_unless(config('whatsapp.ask_again'), $failed);

            return $this->askAgain($failed);
        }
    }

    /** By a worker, and not by who found none. */
    private function answered(Response $response): Response
    {
        if (config('whatsapp.ask_again') && in_array($response->status(), [502, 503, 504], true)) {
            $this->askAgain();
        }

        return $response;
    }

    /** @return never */
    private function askAgain(?Throwable $failed = null): bool
    {
        throw new ServiceUnavailableHttpException(1, 'The worker could not be asked', $failed);
    }

    private function status(object $account, int $seconds): Response
    {
        $query = $this->keyed(['workspace_id' => $account->workspace_id]);

        return Http::timeout($seconds)->get($this->url($account)."/api/sessions/{$account->session_id}/status", $query);
    }

    private function url(object $account): string
    {
        $instances = config('whatsapp.instances');

        return $account->assigned_instance_url ?? $instances[$account->workspace_id % count($instances)];
    }

    private function keyed(array $fields): array
    {
        return $fields + ['api_key' => config('whatsapp.api_key')];
    }
}
