<?php

namespace App\Http\Middleware;

use Closure;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Cache;
use RuntimeException;

/** As such an application has it before Sluice; it stays as it is, with the same secret on all three sides. */
class VerifyWhatsAppHmac
{
    private const TOLERANCE = 300;

    public function handle(Request $request, Closure $next)
    {
        $secret = config('whatsapp.hmac_secret') ?: throw new RuntimeException('HMAC secret not configured');
        $signature = $request->header('X-HMAC-Signature');
        $timestamp = $request->header('X-Timestamp');
        if (! $signature || ! $timestamp) {
            return response()->json(['message' => 'Missing HMAC headers'], 401);
        }
        if (abs(time() - (int) $timestamp) > self::TOLERANCE) {
            return response()->json(['message' => 'Request timestamp expired'], 401);
        }
        if (! hash_equals(hash_hmac('sha256', $timestamp.$request->getContent(), $secret), $signature)) {
            return response()->json(['message' => 'Invalid HMAC signature'], 401);
        }
        $key = 'whatsapp_hmac_rate_limit:'.$request->ip();
        $hits = (int) Cache::get($key, 0);
        if ($hits >= config('whatsapp.rate_limit')) {
            return response()->json(['message' => 'Too many requests'], 429);
        }
        Cache::put($key, $hits + 1, 60);

        return $next($request);
    }
}
