<?php
// PHP: mysqli and PDO, both on mysqlnd.

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

function failure(callable $work): Throwable {
    try { $work(); } catch (Throwable $error) { return $error; }
    throw new Exception('it did not fail');
}

// A connection that is lost is a warning, too; a refused one is a warning before the exception that has its number.
$warnings = [];
set_error_handler(function (int $level, string $text) use (&$warnings) { $warnings[] = $text; return true; });
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);

define('TOKEN', env('JWT_3000'));
define('ROW_LENGTH', 17 * 1024 * 1024);
const TABLE = 'create temporary table t (n int primary key, text varchar(40)) character set utf8mb4';

// `localhost` is a Unix socket for it.
function connect(string $token = TOKEN, ?string $host = null, ?int $port = null, ?string $ca = null, bool $infile = false): mysqli {
    $connection = mysqli_init();
    $connection->options(MYSQLI_OPT_LOCAL_INFILE, $infile);
    $connection->options(MYSQLI_OPT_SSL_VERIFY_SERVER_CERT, true);
    $connection->ssl_set(null, null, $ca ?? env('CA'), null, null);
    $connection->real_connect(
        $host ?? env('ADDRESS'), env('USER'), $token, env('DATABASE'), $port ?? (int) env('PORT'), null, MYSQLI_CLIENT_SSL);
    $connection->set_charset('utf8mb4');
    return $connection;
}

function one(mysqli $connection, string $sql) { return $connection->query($sql)->fetch_row()[0]; }

function user(mysqli $connection): string { return explode('@', one($connection, 'select current_user()'))[0]; }

say(['version' => PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION . '.' . PHP_RELEASE_VERSION . ' (mysqlnd)']);

foreach (['800', '3000', '16000', '20000'] as $size) {
    check("login-$size", fn () => expect(user(connect(env("JWT_$size"))), env('USER')));
}

check('verify', function () use (&$warnings) {
    foreach ([['ca' => env('OTHER_CA')], ['host' => env('OTHER_HOST'), 'port' => (int) env('OTHER_PORT')]] as $change) {
        $warnings = [];
        failure(fn () => connect(...$change));
        $said = implode(' ', $warnings);
        if (!preg_match('/certificate|did not match/', $said)) throw new Exception($said);
    }
});

check('refused', function () {
    $error = failure(fn () => connect(env('JWT_EXPIRED')));
    expect([$error->getCode(), str_contains($error->getMessage(), env('REASON'))], [1045, true]);
    return 'number 1045 and the reason';
});

check('prepared', function () {
    $connection = connect();
    $statement = $connection->prepare('select ? * 2');
    foreach ([21, 4] as $n) {
        $statement->bind_param('i', $n);
        $statement->execute();
        expect((int) $statement->get_result()->fetch_row()[0], $n * 2);
    }
});

check('error', function () {
    $connection = connect();
    $connection->query(TABLE);
    $connection->begin_transaction();
    $connection->query("insert into t values (1, 'one')");
    $error = failure(fn () => $connection->query("insert into t values (1, 'two')"));
    expect([$error->getCode(), $error->getSqlState()], [1062, '23000']);
    $connection->rollback();
    expect(one($connection, 'select count(*) from t'), '0');
});

check('multi', function () {
    $connection = connect();
    $connection->multi_query('select 1; select 2; select 3');
    $found = [];
    do $found[] = $connection->store_result()->fetch_row()[0]; while ($connection->next_result());
    expect($found, ['1', '2', '3']);
    return '`multi_query()`';
});

check('infile', function () {
    $path = env('DIR') . '/rows';
    $rows = implode('', array_map(fn ($n) => "$n\ttext, $n ü\n", range(0, 9999)));
    file_put_contents($path, $rows);
    $connection = connect(infile: true);
    $connection->query(TABLE);
    $connection->query("load data local infile '$path' into table t character set utf8mb4");
    $taken = '';
    foreach ($connection->query('select n, text from t order by n') as $row) $taken .= "$row[n]\t$row[text]\n";
    expect($taken === $rows, true);
    return '`MYSQLI_OPT_LOCAL_INFILE`';
});

check('cancel', function () {
    [$connection, $other] = [connect(), connect()];
    $id = $connection->thread_id;
    $connection->query(env('SLEEP_SQL'), MYSQLI_ASYNC);
    ask('sleeping');
    $other->query("kill query $id");
    expect(failure(fn () => $connection->reap_async_query())->getCode(), 1317);
    expect(one($connection, 'select 7'), '7');
    return '`KILL QUERY` with the id of `thread_id`';
});

check('big', function () {
    $digest = hash_init('sha256');
    $length = 0;
    $connection = connect();
    $result = $connection->query(env('BIG_SQL'), MYSQLI_USE_RESULT);
    while ($row = $result->fetch_row()) {
        hash_update($digest, $row[0]);
        $length += strlen($row[0]);
    }
    expect([$length, hash_final($digest)], [51200 * 1024, env('BIG_SHA256')]);
});

check('row', fn () => expect(strlen(one(connect(), "select repeat('x', " . ROW_LENGTH . ')')), ROW_LENGTH));

say(['check' => 'reset', 'result' => 'absent', 'note' => 'the extension has `change_user()` only']);

check('drain', function () {
    $idle = connect();
    ask('restart');
    $error = failure(fn () => one($idle, 'select 1'));
    expect(user(connect()), env('USER'));
    return '`' . $error->getMessage() . '`, number ' . $error->getCode();
});

$source = 'mysql:host=' . env('ADDRESS') . ';port=' . env('PORT') . ';dbname=' . env('DATABASE');
$options = [PDO::MYSQL_ATTR_SSL_CA => env('CA'), PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => true];
$pdo = new PDO($source, env('USER'), env('JWT_16000'), $options);
$code = failure(fn () => $pdo->query('select * from missing'))->getCode();
say(['extra' => 'PDO (`mysql:` data source), token as its password; SQLSTATE as the exception\'s code',
    'result' => $code === '42S02' ? 'ok' : 'failed']);
