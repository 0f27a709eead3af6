<?php

// The framework: of Composer (`composer require laravel/framework:^8.83 guzzlehttp/guzzle:^7`), else that of Debian.
if (is_file(__DIR__.'/../vendor/autoload.php')) {
    require __DIR__.'/../vendor/autoload.php';
} else {
    require_once 'Illuminate/autoload.php';
    require_once 'GuzzleHttp/autoload.php';
    error_reporting(E_ALL & ~E_DEPRECATED); // Laravel 8 on PHP 8.2
}
spl_autoload_register(function (string $class): void {
    $file = __DIR__.'/../app/'.strtr(substr($class, 4), '\\', '/').'.php';
    if (str_starts_with($class, 'App\\') && is_file($file)) {
        require $file;
    }
});

$storage = getenv('APP_STORAGE') ?: dirname(__DIR__).'/storage';
foreach (['framework/cache/data', 'framework/views', 'logs'] as $folder) {
    is_dir("$storage/$folder") || @mkdir("$storage/$folder", 0700, true);
}
foreach (['APP_PACKAGES_CACHE' => 'packages.php', 'APP_SERVICES_CACHE' => 'services.php'] as $name => $file) {
    putenv("$name=$storage/framework/$file");
}

$app = new Illuminate\Foundation\Application(dirname(__DIR__));
$app->useStoragePath($storage);
$app->singleton(Illuminate\Contracts\Http\Kernel::class, App\Http\Kernel::class);
$app->singleton(Illuminate\Contracts\Console\Kernel::class, App\Console\Kernel::class);
$app->singleton(Illuminate\Contracts\Debug\ExceptionHandler::class, App\Exceptions\Handler::class);

return $app;
