<?php

namespace App\Http\Middleware;

use Illuminate\Http\Middleware\TrustProxies as Middleware;
use Illuminate\Http\Request;

/**
 * Sluice names the client in X-Forwarded-For. It is believed from where Sluice runs, and from nowhere else: `*` lets
 * everybody who reaches Laravel choose the address by which its limiters count.
 */
class TrustProxies extends Middleware
{
    protected $headers = Request::HEADER_X_FORWARDED_FOR | Request::HEADER_X_FORWARDED_HOST
        | Request::HEADER_X_FORWARDED_PORT | Request::HEADER_X_FORWARDED_PROTO;

    protected function proxies()
    {
        return config('whatsapp.proxies');
    }
}
