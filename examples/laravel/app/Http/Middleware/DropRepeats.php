<?php

namespace App\Http\Middleware;

use App\WhatsApp\Once;
use Closure;
use Illuminate\Http\Exceptions\HttpResponseException;
use Illuminate\Http\Request;

/** Behind the HMAC middleware. What is not answered with a 2xx is undone, and comes again. */
class DropRepeats
{
    public function __construct(private Once $once)
    {
    }

    public function handle(Request $request, Closure $next)
    {
        $id = $request->header('Webhook-Id');
        if ($id === null) {
            return $next($request); // it came past Sluice
        }
        $response = response()->json(['status' => 'repeated']);
        $this->once->run($id, function () use ($request, $next, &$response): void {
            $response = $next($request);
            if (! $response->isSuccessful()) {
                throw new HttpResponseException($response);
            }
        });

        return $response;
    }
}
