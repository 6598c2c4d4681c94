# DBD::Pg.
use strict;
use warnings;
use utf8;
use DBD::Pg qw(:async);
use DBI;
use Digest::SHA;
use JSON::PP;

$| = 1;

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

sub connect_as {
    my ($token, %where) = @_;
    my ($host, $ca) = ($where{host} // env('HOST'), $where{ca} // env('CA'));
    my ($port, $database) = (env('PORT'), env('DATABASE'));
    my $source = "dbi:Pg:dbname=$database;host=$host;port=$port;sslmode=verify-full;sslrootcert=$ca;gssencmode=disable";
    return DBI->connect($source, env('USER'), $token, { RaiseError => 1, PrintError => 0, AutoCommit => 1 });
}

sub one { return ($_[0]->selectrow_array($_[1]))[0] }

sub failure {
    my ($work) = @_;
    eval { $work->(); 1 } and die 'it did not fail';
    return $@;
}

sub state_of {
    my ($handle, $sql) = @_;
    failure(sub { one($handle, $sql) });
    return $handle->state;
}

say_line(version => "$DBD::Pg::VERSION");

for my $size (qw(800 3000 16000)) {
    check("login-$size", sub { expect(one(connect_as(env("JWT_$size")), 'select current_user'), env('USER')); '' });
}

check('verify', sub {
    for my $change ([ca => env('OTHER_CA')], [host => env('OTHER_HOST')]) {
        my $said = failure(sub { connect_as($token, @$change) });
        die $said unless $said =~ /certificate|host name/;
    }
    return '';
});

check('refused', sub {
    my $said = failure(sub { connect_as(env('JWT_EXPIRED')) });
    for my $part ('password authentication failed', 'the token expired', 'HINT:') {
        die "no '$part' in '$said'" if index($said, $part) < 0;
    }
    return "message, detail and hint in the text; `state` is $DBI::state";
});

check('prepared', sub {
    my $handle = connect_as($token);
    my $statement = $handle->prepare('select ?::int * 2', { pg_prepare_now => 1 });
    for my $n (21, 4) {
        $statement->execute($n);
        expect($statement->fetchrow_arrayref->[0], $n * 2);
        $statement->finish;
    }
    expect(one($handle, 'select count(*) from pg_prepared_statements'), 1);
    return '';
});

check('error', sub {
    my $handle = connect_as($token);
    $handle->begin_work;
    expect(state_of($handle, 'select 1/0'), '22012');
    expect(state_of($handle, 'select 1'), '25P02');
    $handle->rollback;
    expect(one($handle, 'select 7'), 7);
    return '';
});

check('copy', sub {
    my $handle = connect_as($token);
    my $rows = join '', map { "$_\ttext, $_ ü\n" } 0 .. 9999;
    $handle->do('create temp table t (n int, text text)');
    $handle->do('copy t from stdin');
    $handle->pg_putcopydata($rows);
    $handle->pg_putcopyend;
    $handle->do('copy t to stdout');
    my ($taken, $line) = ('', '');
    $taken .= $line while $handle->pg_getcopydata($line) >= 0;
    die 'other rows came back' if $taken ne $rows;
    return '';
});

check('cancel', sub {
    my $handle = connect_as($token);
    my $pid = $handle->{pg_pid};
    $handle->do(env('SLEEP_SQL'), { pg_async => PG_ASYNC });
    ask('sleeping');
    # It waits for the query's end and throws its result away.
    expect($handle->pg_cancel, 1);
    expect($handle->state, '57014');
    expect(one($handle, 'select pg_backend_pid()'), $pid);
    return '`pg_cancel` of an asynchronous query';
});

check('big', sub {
    my $statement = connect_as($token)->prepare(env('BIG_SQL'));
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

check('notify', sub {
    my ($listener, $speaker) = (connect_as($token), connect_as($token));
    $listener->do('listen matrix');
    $speaker->do("notify matrix, 'hello'");
    $listener->do('select 1');
    my $heard = $listener->pg_notifies;
    expect("$heard->[0] $heard->[2]", 'matrix hello');
    return '';
});

check('drain', sub {
    my $idle = connect_as($token);
    ask('restart');
    my $state = state_of($idle, 'select 1');
    expect(one(connect_as($token), 'select current_user'), env('USER'));
    return "`state` $state; `ping` is " . ($idle->ping || 0);
});
