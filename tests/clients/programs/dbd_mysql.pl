# DBD::MariaDB and DBD::mysql, which have the same interface: dbd_mysql.pl DRIVER.
use strict;
use warnings;
use utf8;
use DBI;
use Digest::SHA;
use JSON::PP;

$| = 1;

my $driver = $ARGV[0];
my $maria = $driver eq 'MariaDB';
# Their attributes begin with the driver's name.
my $prefix = lc $driver;

sub env { return $ENV{"MATRIX_$_[0]"} }

sub say_line { print JSON::PP->new->ascii->encode({@_}), "\n" }

sub check {
    my ($name, $work) = @_;
    my $note = eval { $work->() };
    if (my $error = $@) {
        say_line(check => $name, result => 'failed', note => "$error");
    } else {
        say_line(check => $name, result => 'ok', note => $note // '');
    }
}

sub ask {
    say_line(await => $_[0]);
    defined(<STDIN>) or die 'the runner has gone';
}

sub expect {
    my ($got, $wanted) = @_;
    die "'$got' instead of '$wanted'" if $got ne $wanted;
}

my $token = env('JWT_3000');
my $row_length = 17 * 1024 * 1024;
my $table = 'create temporary table t (n int primary key, text varchar(40)) character set utf8mb4';

# `localhost` is a Unix socket for them.
sub connect_as {
    my ($token, %more) = @_;
    my ($host, $ca) = ($more{host} // env('ADDRESS'), $more{ca} // env('CA'));
    my ($port, $database) = ($more{port} // env('PORT'), env('DATABASE'));
    my $options = { RaiseError => 1, PrintError => 0, AutoCommit => 1, "${prefix}_ssl" => 1, "${prefix}_ssl_ca_file" => $ca };
    $options->{"${prefix}_ssl_verify_server_cert"} = 1;
    # Without it this build, on MariaDB's library, asks for a protocol of TLS that it does not have.
    $options->{mysql_ssl_optional} = 1 if !$maria;
    $options->{mysql_enable_utf8mb4} = 1 if !$maria;
    my $source = "dbi:$driver:database=$database;host=$host;port=$port";
    $source .= ";${prefix}_local_infile=1" if $more{infile};
    $source .= ";${prefix}_multi_statements=1" if $more{multi};
    $source .= ';mysql_server_prepare=1' if $more{prepare} && !$maria;
    $source .= ';mariadb_server_prepare=1' if $more{prepare} && $maria;
    return DBI->connect($source, env('USER'), $token, $options);
}

sub one { return ($_[0]->selectrow_array($_[1]))[0] }

sub user { return (split /@/, one(connect_as(@_), 'select current_user()'))[0] }

sub failure {
    my ($work) = @_;
    eval { $work->(); 1 } and die 'it did not fail';
    return $@;
}

my $class = "DBD::$driver";
eval "require $class" or die $@;
say_line(version => $class->VERSION);

for my $size (qw(800 3000 16000 20000)) {
    check("login-$size", sub { expect(user(env("JWT_$size")), env('USER')); '' });
}

check('verify', sub {
    for my $change ([ca => env('OTHER_CA')], [host => env('OTHER_HOST'), port => env('OTHER_PORT')]) {
        my $said = failure(sub { connect_as($token, @$change) });
        die $said unless $said =~ /certificate|verif|host/i;
    }
    return '';
});

check('refused', sub {
    my $said = failure(sub { connect_as(env('JWT_EXPIRED')) });
    die "not in '$said'" if index($said, env('REASON')) < 0;
    expect("$DBI::err $DBI::state", '1045 28000');
    return '`err` 1045, `state` 28000, and the reason';
});

check('prepared', sub {
    my $handle = connect_as($token, prepare => 1);
    my $statement = $handle->prepare('select ? * 2');
    for my $n (21, 4) {
        $statement->execute($n);
        expect($statement->fetchrow_arrayref->[0] + 0, $n * 2);
        $statement->finish;
    }
    return "`${prefix}_server_prepare=1`";
});

check('error', sub {
    my $handle = connect_as($token);
    $handle->do($table);
    $handle->begin_work;
    $handle->do("insert into t values (1, 'one')");
    failure(sub { $handle->do("insert into t values (1, 'two')") });
    expect($handle->err . ' ' . $handle->state, '1062 23000');
    $handle->rollback;
    expect(one($handle, 'select count(*) from t'), 0);
    return '';
});

check('multi', sub {
    my $handle = connect_as($token, multi => 1);
    my $statement = $handle->prepare('select 1; select 2; select 3');
    $statement->execute;
    my @found;
    do { push @found, $statement->fetchrow_arrayref->[0] } while ($statement->more_results);
    expect("@found", '1 2 3');
    return "`${prefix}_multi_statements=1`";
});

check('infile', sub {
    my ($path, $rows) = (env('DIR') . '/rows', join '', map { "$_\ttext, $_ ü\n" } 0 .. 9999);
    open my $file, '>:utf8', $path or die $!;
    print $file $rows;
    close $file;
    my $handle = connect_as($token, infile => 1);
    $handle->do($table);
    $handle->do("load data local infile '$path' into table t character set utf8mb4");
    my $taken = join '', map { "$_->[0]\t$_->[1]\n" } @{ $handle->selectall_arrayref('select n, text from t order by n') };
    die 'other rows came back' if $taken ne $rows;
    return "`${prefix}_local_infile=1`";
});

check('cancel', sub {
    my ($handle, $other) = (connect_as($token), connect_as($token));
    my $id = one($handle, 'select connection_id()');
    my $statement = $handle->prepare(env('SLEEP_SQL'), { ($maria ? 'mariadb_async' : 'async') => 1 });
    $statement->execute;
    ask('sleeping');
    $other->do("kill query $id");
    failure(sub { $maria ? $statement->mariadb_async_result : $statement->mysql_async_result });
    expect($statement->err, 1317);
    expect(one($handle, 'select 7'), 7);
    return '`KILL QUERY` with `connection_id()`, of an asynchronous statement';
});

check('big', sub {
    my $handle = connect_as($token);
    my $statement = $handle->prepare(env('BIG_SQL'));
    $statement->execute;
    my ($digest, $length) = (Digest::SHA->new(256), 0);
    while (my $row = $statement->fetchrow_arrayref) {
        $digest->add($row->[0]);
        $length += length $row->[0];
    }
    expect($length, 51200 * 1024);
    expect($digest->hexdigest, env('BIG_SHA256'));
    return '';
});

check('row', sub { expect(length one(connect_as($token), "select repeat('x', $row_length)"), $row_length); '' });

say_line(check => 'reset', result => 'absent', note => 'the driver has no such command');

check('drain', sub {
    my $idle = connect_as($token);
    ask('restart');
    failure(sub { one($idle, 'select 1') });
    my $said = $idle->err . ': ' . $idle->errstr;
    expect(user($token), env('USER'));
    return "`$said`; `ping` is " . ($idle->ping || 0);
});
