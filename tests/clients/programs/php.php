<?php
// PHP: the extension pgsql, and PDO.

function env(string $name): string { return getenv("MATRIX_$name"); }

function say(array $fields): void { fwrite(STDOUT, json_encode($fields) . "\n"); }

function check(string $name, callable $work): void {
    try {
        say(['check' => $name, 'result' => 'ok', 'note' => $work() ?? '']);
    } catch (Throwable $error) {
        say(['check' => $name, 'result' => 'failed', 'note' => $error->getMessage()]);
    }
}

function ask(string $what): void {
    say(['await' => $what]);
    if (fgets(STDIN) === false) throw new Exception('the runner has gone');
}

function expect($got, $wanted): void {
    if ($got !== $wanted) throw new Exception(var_export($got, true) . ' instead of ' . var_export($wanted, true));
}

function failure(callable $work): string {
    try { $work(); } catch (Throwable $error) { return $error->getMessage(); }
    throw new Exception('it did not fail');
}

// The extension speaks in warnings.
set_error_handler(function (int $level, string $text) { throw new Exception($text); });

define('TOKEN', env('JWT_3000'));

function options(?string $host = null, ?string $ca = null): string {
    return 'host=' . ($host ?? env('HOST')) . ' port=' . env('PORT') . ' dbname=' . env('DATABASE')
        . ' sslmode=verify-full sslrootcert=' . ($ca ?? env('CA')) . ' gssencmode=disable';
}

function connect(string $token = TOKEN, ?string $host = null, ?string $ca = null) {
    return pg_connect(options($host, $ca) . ' user=' . env('USER') . " password=$token", PGSQL_CONNECT_FORCE_NEW);
}

function one($connection, string $sql) { return pg_fetch_result(pg_query($connection, $sql), 0, 0); }

/** The SQLSTATE of a query that fails; `pg_query` would give only its text. */
function state($connection, string $sql): ?string {
    pg_send_query($connection, $sql);
    $state = null;
    while ($result = pg_get_result($connection)) $state = pg_result_error_field($result, PGSQL_DIAG_SQLSTATE);
    return $state;
}

say(['version' => PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION . '.' . PHP_RELEASE_VERSION
    . ' (libpq ' . explode(' ', pg_version(connect())['client'])[0] . ')']);

foreach (['800', '3000', '16000'] as $size) {
    check("login-$size", fn () => expect(one(connect(env("JWT_$size")), 'select current_user'), env('USER')));
}

check('verify', function () {
    foreach ([failure(fn () => connect(ca: env('OTHER_CA'))), failure(fn () => connect(host: env('OTHER_HOST')))] as $said) {
        if (!preg_match('/certificate|host name/', $said)) throw new Exception($said);
    }
});

check('refused', function () {
    $said = failure(fn () => connect(env('JWT_EXPIRED')));
    foreach (['password authentication failed', 'the token expired', 'HINT:'] as $part) {
        expect(str_contains($said, $part), true);
    }
    return 'message, detail and hint in the warning; no SQLSTATE';
});

check('prepared', function () {
    $connection = connect();
    pg_prepare($connection, 'double', 'select $1::int * 2');
    foreach ([21, 4] as $n) expect(pg_fetch_result(pg_execute($connection, 'double', [$n]), 0, 0), (string) ($n * 2));
});

check('error', function () {
    $connection = connect();
    pg_query($connection, 'begin');
    expect([state($connection, 'select 1/0'), state($connection, 'select 1')], ['22012', '25P02']);
    pg_query($connection, 'rollback');
    expect(one($connection, 'select 7'), '7');
});

check('copy', function () {
    $connection = connect();
    $rows = array_map(fn ($n) => "$n\ttext, $n ü\n", range(0, 9999));
    pg_query($connection, 'create temp table t (n int, text text)');
    pg_copy_from($connection, 't', $rows);
    expect(pg_copy_to($connection, 't') === $rows, true);
});

check('cancel', function () {
    $connection = connect();
    $pid = pg_get_pid($connection);
    pg_send_query($connection, env('SLEEP_SQL'));
    ask('sleeping');
    // It waits for the query's end and throws its result away.
    expect(pg_cancel_query($connection), true);
    expect(one($connection, 'select pg_backend_pid()'), (string) $pid);
    return '`pg_cancel_query()`, which keeps 57014 to itself';
});

check('big', function () {
    $result = pg_query(connect(), env('BIG_SQL'));
    $digest = hash_init('sha256');
    $length = 0;
    while ($row = pg_fetch_row($result)) {
        hash_update($digest, $row[0]);
        $length += strlen($row[0]);
    }
    expect([$length, hash_final($digest)], [51200 * 1024, env('BIG_SHA256')]);
});

check('notify', function () {
    [$listener, $speaker] = [connect(), connect()];
    pg_query($listener, 'listen matrix');
    pg_query($speaker, "notify matrix, 'hello'");
    pg_query($listener, 'select 1');
    $heard = pg_get_notify($listener, PGSQL_ASSOC);
    expect([$heard['message'], $heard['payload']], ['matrix', 'hello']);
});

check('drain', function () {
    $idle = connect();
    ask('restart');
    $said = failure(fn () => one($idle, 'select 1'));
    expect(str_contains($said, 'terminating connection due to administrator command'), true);
    expect(pg_connection_reset($idle), true);
    expect(one($idle, 'select 7'), '7');
    expect(one(connect(), 'select current_user'), env('USER'));
    return '`terminating connection due to administrator command`; `pg_connection_reset()` connects again';
});

$pdo = new PDO('pgsql:' . str_replace(' ', ';', options()), env('USER'), env('JWT_16000'));
try {
    $pdo->query('select 1/0');
    $state = null;
} catch (PDOException $error) {
    $state = $error->getCode();
}
$extra = 'PDO (`pgsql:` data source), token as its password; SQLSTATE as the exception\'s code';
say(['extra' => $extra, 'result' => $state === '22012' ? 'ok' : 'failed']);
