<?php
// PHP's built-in server with the sessions of phpredis: `php -d session.save_handler=redis … -S 127.0.0.1:PORT php_app.php`.

session_start();
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$status = 200;
if ($path === '/visit') {
    $_SESSION['cart'] = ['book'];
} elseif ($path === '/login') {
    session_regenerate_id(true);
    $_SESSION['user_id'] = 7;
} elseif ($path === '/logout') {
    $_SESSION = [];
    session_destroy();
} elseif (!isset($_SESSION['user_id'])) {
    $status = 401;
}
http_response_code($status);
header('Content-Type: application/json');
header('X-Answered-By: app');
echo json_encode([
    'user' => isset($_SESSION['user_id']) ? (string) $_SESSION['user_id'] : null,
    'told' => $_SERVER['HTTP_X_USER_ID'] ?? null,
]);
