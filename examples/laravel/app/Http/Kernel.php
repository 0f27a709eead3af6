<?php

namespace App\Http;

use Illuminate\Foundation\Http\Kernel as HttpKernel;

class Kernel extends HttpKernel
{
    protected $middleware = [Middleware\TrustProxies::class];

    protected $middlewareGroups = ['api' => [\Illuminate\Routing\Middleware\SubstituteBindings::class]];

    protected $routeMiddleware = [
        'whatsapp.hmac' => Middleware\VerifyWhatsAppHmac::class,
        'once' => Middleware\DropRepeats::class,
    ];
}
