<?php

namespace App\Http\Controllers;

use App\WhatsApp\Workers;
use Illuminate\Http\JsonResponse;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\DB;

/** What the workers ask for when they start, and what a person does in the application. */
class AccountController
{
    public function active(): JsonResponse
    {
        $columns = ['id', 'session_id', 'workspace_id', 'phone_number', 'status', 'provider_type'];
        $sessions = DB::table('whatsapp_accounts')->whereNull('deleted_at')->where('status', '<>', 'failed')
            ->orderBy('id')->get($columns);

        return response()->json(['success' => true, 'sessions' => $sessions, 'count' => $sessions->count()]);
    }

    public function send(Request $request, Workers $workers): JsonResponse
    {
        $said = $workers->send($this->account($request->json('session_id')), $request->json('to'), $request->json('message'));

        return response()->json(['status' => $said->status(), 'value' => $said->json()]);
    }

    public function check(string $session, Workers $workers): JsonResponse
    {
        $said = $workers->check($this->account($session));

        return response()->json(['status' => $said->status(), 'value' => $said->json()]);
    }

    private function account(string $session): object
    {
        return DB::table('whatsapp_accounts')->where('session_id', $session)->whereNull('deleted_at')->first() ?? abort(404);
    }
}
