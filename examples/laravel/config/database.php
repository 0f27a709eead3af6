<?php

return [
    'default' => 'sqlite',
    'connections' => [
        'sqlite' => [
            'driver' => 'sqlite',
            'database' => env('DB_DATABASE', storage_path('database.sqlite')),
            'prefix' => '',
            'options' => [PDO::ATTR_TIMEOUT => 20],
        ],
    ],
    'migrations' => 'migrations',
];
