<?php

$nodejs = env('WHATSAPP_NODEJS_URL', 'http://localhost:3000');

return [
    'instances' => array_values(array_filter([
        env('WHATSAPP_INSTANCE_1', $nodejs),
        env('WHATSAPP_INSTANCE_2'),
        env('WHATSAPP_INSTANCE_3'),
        env('WHATSAPP_INSTANCE_4'),
    ])),
    'api_key' => env('WHATSAPP_NODE_API_KEY', env('LARAVEL_API_TOKEN')),
    'hmac_secret' => env('WHATSAPP_HMAC_SECRET', env('HMAC_SECRET')),
    'rate_limit' => (int) env('WHATSAPP_HMAC_RATE_LIMIT', 100), // webhooks a minute from one address
    'proxies' => explode(',', env('TRUSTED_PROXIES', '127.0.0.1')), // where Sluice runs
    'ask_again' => (bool) env('WHATSAPP_ASK_AGAIN', false), // 503 instead of losing a message about which no worker could be asked
    'queue_workers' => (int) env('WHATSAPP_QUEUE_WORKERS', 4), // as many as supervisor/queues.conf starts
];
