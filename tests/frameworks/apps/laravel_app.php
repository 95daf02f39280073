<?php
// Laravel 8 of Debian (php-laravel-framework), the skeleton of a project in one file: `php -S 127.0.0.1:PORT laravel_app.php`.
// Environment: REDIS_PORT, APP_KEY, CIPHER, ENCRYPT (1: session.encrypt). The working directory is its storage.

namespace App;

use Illuminate\Auth\GenericUser;
use Illuminate\Contracts\Auth\Authenticatable;
use Illuminate\Contracts\Auth\UserProvider;
use Illuminate\Foundation\Application;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Auth;
use Illuminate\Support\Facades\Facade;
use Illuminate\Support\Facades\Route;

require 'Illuminate/autoload.php';

/** Knows one user. */
class Alice implements UserProvider
{
    public function retrieveById($id) { return $id == 7 ? new GenericUser(['id' => 7, 'password' => '']) : null; }
    public function retrieveByToken($id, $token) { return null; }
    public function updateRememberToken(Authenticatable $user, $token) {}
    public function retrieveByCredentials(array $credentials) { return null; }
    public function validateCredentials(Authenticatable $user, array $credentials) { return false; }
}

$storage = getcwd();
foreach (['bootstrap/cache', 'storage/framework/views', 'storage/logs'] as $folder) {
    if (!is_dir("$storage/$folder")) {
        mkdir("$storage/$folder", 0777, true);
    }
}
$app = new Application($storage);
$app->instance('request', $request = Request::capture());
$redis = ['host' => '127.0.0.1', 'port' => getenv('REDIS_PORT'), 'database' => 0];
$app->instance('config', new \Illuminate\Config\Repository([
    'app' => ['key' => getenv('APP_KEY'), 'cipher' => getenv('CIPHER'), 'debug' => true, 'env' => 'testing'],
    'auth' => [
        'defaults' => ['guard' => 'web'],
        'guards' => ['web' => ['driver' => 'session', 'provider' => 'users']],
        'providers' => ['users' => ['driver' => 'alice']],
    ],
    'cache' => [
        'default' => 'redis',
        'stores' => ['redis' => ['driver' => 'redis', 'connection' => 'cache']],
        'prefix' => 'laravel_cache',
    ],
    'database' => ['redis' => [
        'client' => 'phpredis', 'options' => ['prefix' => 'laravel_database_'], 'default' => $redis, 'cache' => $redis,
    ]],
    'session' => [
        'driver' => 'redis', 'lifetime' => 120, 'expire_on_close' => false, 'encrypt' => getenv('ENCRYPT') === '1',
        'connection' => 'default', 'store' => null, 'lottery' => [0, 100], 'cookie' => 'laravel_session', 'path' => '/',
        'domain' => null, 'secure' => false, 'http_only' => true, 'same_site' => 'lax',
    ],
    'view' => ['paths' => [], 'compiled' => "$storage/storage/framework/views"],
    'logging' => ['default' => 'errorlog', 'channels' => ['errorlog' => ['driver' => 'errorlog']]],
]));
Facade::setFacadeApplication($app);
foreach ([
    \Illuminate\Auth\AuthServiceProvider::class,
    \Illuminate\Cache\CacheServiceProvider::class,
    \Illuminate\Cookie\CookieServiceProvider::class,
    \Illuminate\Encryption\EncryptionServiceProvider::class,
    \Illuminate\Redis\RedisServiceProvider::class,
    \Illuminate\Session\SessionServiceProvider::class,
    \Illuminate\View\ViewServiceProvider::class,
    \Illuminate\Filesystem\FilesystemServiceProvider::class,
] as $provider) {
    $app->register($provider);
}
$app->boot();
Auth::provider('alice', fn () => new Alice);

$said = fn (int $status = 200) => response()->json(
    ['user' => Auth::check() ? (string) Auth::id() : null, 'told' => request()->header('X-User-Id')],
    $status,
    ['X-Answered-By' => 'app'],
);
// What a project's group `web` begins with.
Route::middleware([
    \Illuminate\Cookie\Middleware\EncryptCookies::class,
    \Illuminate\Cookie\Middleware\AddQueuedCookiesToResponse::class,
    \Illuminate\Session\Middleware\StartSession::class,
])->group(function () use ($said) {
    Route::get('/visit', function () use ($said) {
        session(['cart' => ['book']]);
        return $said();
    });
    Route::post('/login', function () use ($said) {
        Auth::loginUsingId(7);
        return $said();
    });
    Route::get('/me', fn () => $said(Auth::check() ? 200 : 401));
    Route::post('/logout', function () use ($said) {
        Auth::logout();
        session()->invalidate();
        return $said();
    });
});
$app['router']->dispatch($request)->send();
