<?php

use App\Http\Controllers\AccountController;
use App\Http\Controllers\BatchWebhookController;
use App\Http\Controllers\QueuedWebhookController;
use App\Http\Controllers\WebhookController;
use Illuminate\Support\Facades\Route;

Route::middleware('whatsapp.hmac')->group(function (): void {
    // As it was before Sluice.
    Route::post('whatsapp/webhooks/webjs', WebhookController::class);

    // Each is the url of an endpoint in policies.yaml; the webhook's own path stands behind it, but not behind a batch's.
    Route::post('sluice/once/{path}', WebhookController::class)->where('path', '.*')->middleware('once');
    Route::post('sluice/queued/{path}', QueuedWebhookController::class)->where('path', '.*')->middleware('once');
    Route::post('sluice/batch', BatchWebhookController::class);
});

Route::get('whatsapp/accounts/active', [AccountController::class, 'active']);
Route::post('chats/send', [AccountController::class, 'send']);
Route::post('accounts/{session}/check', [AccountController::class, 'check']);
