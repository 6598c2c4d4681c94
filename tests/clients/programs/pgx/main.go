// pgx, with its pool.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

var (
	background = context.Background()
	answers    = bufio.NewScanner(os.Stdin)
	// Set by the build: the package does not know its own.
	driver string
)

func env(name string) string { return os.Getenv("MATRIX_" + name) }

func say(fields map[string]string) {
	line, _ := json.Marshal(fields)
	fmt.Println(string(line))
}

func check(name string, work func() (string, error)) {
	note, err := work()
	if err != nil {
		say(map[string]string{"check": name, "result": "failed", "note": err.Error()})
		return
	}
	say(map[string]string{"check": name, "result": "ok", "note": note})
}

func ask(what string) {
	say(map[string]string{"await": what})
	if !answers.Scan() {
		os.Exit(1)
	}
}

func expect(got, wanted interface{}) error {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		return fmt.Errorf("%v instead of %v", got, wanted)
	}
	return nil
}

func options(token, host, ca string) string {
	return fmt.Sprintf("host=%s port=%s user=%s dbname=%s password=%s sslmode=verify-full sslrootcert=%s",
		host, env("PORT"), env("USER"), env("DATABASE"), token, ca)
}

func connect(token string) (*pgx.Conn, error) {
	return pgx.Connect(background, options(token, env("HOST"), env("CA")))
}

func session() *pgx.Conn {
	conn, err := connect(env("JWT_3000"))
	if err != nil {
		panic(err)
	}
	return conn
}

func user(token string) (name string, err error) {
	conn, err := connect(token)
	if err != nil {
		return "", err
	}
	defer conn.Close(background)
	err = conn.QueryRow(background, "select current_user").Scan(&name)
	return name, err
}

func state(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return fmt.Sprintf("none (%v)", err)
}

func verify() (string, error) {
	for _, line := range []string{
		options(env("JWT_3000"), env("HOST"), env("OTHER_CA")),
		options(env("JWT_3000"), env("OTHER_HOST"), env("CA")),
	} {
		_, err := pgx.Connect(background, line)
		if err == nil {
			return "", errors.New("connected")
		}
		if !regexp.MustCompile("x509|certificate").MatchString(err.Error()) {
			return "", err
		}
	}
	return "", nil
}

func refused() (string, error) {
	_, err := connect(env("JWT_EXPIRED"))
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return "", fmt.Errorf("not an answer of the server: %v", err)
	}
	if !strings.Contains(answer.Detail, "the token expired") || answer.Hint == "" {
		return "", fmt.Errorf("detail %q, hint %q", answer.Detail, answer.Hint)
	}
	return "`Code` 28P01, `Detail` and `Hint` of `PgError`", expect(answer.Code, "28P01")
}

func prepared() (string, error) {
	conn := session()
	defer conn.Close(background)
	if _, err := conn.Prepare(background, "double", "select $1::int * 2"); err != nil {
		return "", err
	}
	for _, n := range []int{21, 4} {
		var twice int
		if err := conn.QueryRow(background, "double", n).Scan(&twice); err != nil {
			return "", err
		}
		if err := expect(twice, 2*n); err != nil {
			return "", err
		}
	}
	return "", nil
}

func broken() (string, error) {
	conn := session()
	defer conn.Close(background)
	states := []string{}
	for _, sql := range []string{"begin", "select 1/0", "select 1", "rollback", "select 7"} {
		if _, err := conn.Exec(background, sql); err != nil {
			states = append(states, state(err))
		}
	}
	return "", expect(states, "[22012 25P02]")
}

func copied() (string, error) {
	conn := session()
	defer conn.Close(background)
	var rows strings.Builder
	for n := 0; n < 10000; n++ {
		fmt.Fprintf(&rows, "%d\ttext, %d ü\n", n, n)
	}
	if _, err := conn.Exec(background, "create temp table t (n int, text text)"); err != nil {
		return "", err
	}
	if _, err := conn.PgConn().CopyFrom(background, strings.NewReader(rows.String()), "copy t from stdin"); err != nil {
		return "", err
	}
	var taken bytes.Buffer
	if _, err := conn.PgConn().CopyTo(background, &taken, "copy t to stdout"); err != nil {
		return "", err
	}
	if taken.String() != rows.String() {
		return "", errors.New("other rows came back")
	}
	// The driver's own form is binary.
	more := [][]interface{}{{int32(1), "one"}, {int32(2), "two"}}
	_, err := conn.CopyFrom(background, pgx.Identifier{"t"}, []string{"n", "text"}, pgx.CopyFromRows(more))
	return "text and binary", err
}

func cancelled() (string, error) {
	conn := session()
	defer conn.Close(background)
	pid := conn.PgConn().PID()
	failed := make(chan error)
	go func() {
		_, err := conn.Exec(background, env("SLEEP_SQL"))
		failed <- err
	}()
	ask("sleeping")
	if err := conn.PgConn().CancelRequest(background); err != nil {
		return "", err
	}
	if err := expect(state(<-failed), "57014"); err != nil {
		return "", err
	}
	var now uint32
	if err := conn.QueryRow(background, "select pg_backend_pid()::oid").Scan(&now); err != nil {
		return "", err
	}
	if err := expect(now, pid); err != nil {
		return "", err
	}
	ended, end := context.WithTimeout(background, 50*time.Millisecond)
	defer end()
	_, err := conn.Exec(ended, "select pg_sleep(100)")
	note := "`PgConn().CancelRequest()`; a context that ends closes the connection instead"
	return note, expect([]bool{err != nil, conn.IsClosed()}, "[true true]")
}

func big() (string, error) {
	conn := session()
	defer conn.Close(background)
	rows, err := conn.Query(background, env("BIG_SQL"))
	if err != nil {
		return "", err
	}
	defer rows.Close()
	digest, length := sha256.New(), 0
	for rows.Next() {
		line := rows.RawValues()[0]
		digest.Write(line)
		length += len(line)
	}
	if err := expect(length, 51200*1024); err != nil {
		return "", err
	}
	return "", expect(hex.EncodeToString(digest.Sum(nil)), env("BIG_SHA256"))
}

func notified() (string, error) {
	listener, speaker := session(), session()
	defer listener.Close(background)
	defer speaker.Close(background)
	if _, err := listener.Exec(background, "listen matrix"); err != nil {
		return "", err
	}
	if _, err := speaker.Exec(background, "notify matrix, 'hello'"); err != nil {
		return "", err
	}
	patience, end := context.WithTimeout(background, 30*time.Second)
	defer end()
	heard, err := listener.WaitForNotification(patience)
	if err != nil {
		return "", err
	}
	return "", expect(heard.Channel+" "+heard.Payload, "matrix hello")
}

func drained() (string, error) {
	config, err := pgxpool.ParseConfig(options("stale", env("HOST"), env("CA")))
	if err != nil {
		return "", err
	}
	config.BeforeConnect = func(_ context.Context, fresh *pgx.ConnConfig) error {
		fresh.Password = env("JWT_3000")
		return nil
	}
	pool, err := pgxpool.ConnectConfig(background, config)
	if err != nil {
		return "", err
	}
	say(map[string]string{
		"extra": "a fresh token for each new connection of a pool: `BeforeConnect`", "result": "ok",
	})
	idle := session()
	ask("restart")
	_, err = idle.Exec(background, "select 1")
	if err == nil {
		return "", errors.New("the old session goes on")
	}
	said := state(err)
	name, err := user(env("JWT_3000"))
	if err != nil {
		return "", err
	}
	// What the pool had is noticed when it is used: one failure for each, then it connects again.
	tries := 0
	for ; tries < 5; tries++ {
		if _, err = pool.Exec(background, "select 1"); err == nil {
			break
		}
	}
	if err != nil {
		return "", err
	}
	note := fmt.Sprintf("`Code` %s; a pool hands out the dead connection once, then connects again", said)
	return note, expect([]interface{}{name, tries}, fmt.Sprintf("[%s 1]", env("USER")))
}

func main() {
	say(map[string]string{"version": driver})
	for _, size := range []string{"800", "3000", "16000"} {
		check("login-"+size, func() (string, error) {
			name, err := user(env("JWT_" + size))
			if err != nil {
				return "", err
			}
			return "", expect(name, env("USER"))
		})
	}
	check("verify", verify)
	check("refused", refused)
	check("prepared", prepared)
	check("error", broken)
	check("copy", copied)
	check("cancel", cancelled)
	check("big", big)
	check("notify", notified)
	check("drain", drained)
}
