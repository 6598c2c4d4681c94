// go-sql-driver/mysql, with the pool of database/sql.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/go-sql-driver/mysql"
)

const rowLength = 17 * 1024 * 1024

const table = "create temporary table t (n int primary key, text varchar(40)) character set utf8mb4"

var (
	background = context.Background()
	answers    = bufio.NewScanner(os.Stdin)
	token      = env("JWT_3000")
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

// open gives a pool of one connection. The certificate must have the name.
func open(token, name, ca string, change func(*mysql.Config)) *sql.DB {
	pem, err := os.ReadFile(ca)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	key := "matrix-" + name + ca
	if err := mysql.RegisterTLSConfig(key, &tls.Config{RootCAs: roots, ServerName: name}); err != nil {
		panic(err)
	}
	config := mysql.NewConfig()
	config.User, config.Passwd, config.DBName = env("USER"), token, env("DATABASE")
	config.Net, config.Addr = "tcp", env("HOST")+":"+env("PORT")
	config.TLSConfig = key
	config.AllowCleartextPasswords = true
	config.MaxAllowedPacket = 64 << 20
	if change != nil {
		change(config)
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		panic(err)
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(1)
	return pool
}

func session(change func(*mysql.Config)) *sql.DB { return open(token, env("HOST"), env("CA"), change) }

func one(pool *sql.DB, text string) (found string, err error) {
	err = pool.QueryRow(text).Scan(&found)
	return found, err
}

func user(pool *sql.DB) (string, error) {
	defer pool.Close()
	name, err := one(pool, "select current_user()")
	return strings.Split(name, "@")[0], err
}

func number(err error) uint16 {
	var answer *mysql.MySQLError
	if errors.As(err, &answer) {
		return answer.Number
	}
	return 0
}

// login runs in a process of its own: the driver's fault would end this one.
func login(size string) {
	output, err := exec.Command(os.Args[0], "login", size).CombinedOutput()
	switch {
	case err == nil && string(output) == env("USER"):
		say(map[string]string{"check": "login-" + size, "result": "ok"})
	case strings.Contains(string(output), "panic: runtime error: slice bounds out of range"):
		note := "the driver panics with a token over 4,091 bytes"
		say(map[string]string{"check": "login-" + size, "result": "limit", "note": note})
	default:
		say(map[string]string{"check": "login-" + size, "result": "failed", "note": string(output)})
	}
}

func verify() (string, error) {
	there := func(c *mysql.Config) { c.Addr = env("OTHER_HOST") + ":" + env("OTHER_PORT") }
	if env("OTHER_PORT") == env("PORT") {
		// Go's resolver knows no such form of an address: only the name in the certificate is another one.
		there = nil
	}
	for _, pool := range []*sql.DB{
		open(token, env("HOST"), env("OTHER_CA"), nil),
		open(token, env("OTHER_HOST"), env("CA"), there),
	} {
		_, err := user(pool)
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
	_, err := user(open(env("JWT_EXPIRED"), env("HOST"), env("CA"), nil))
	if err == nil || !strings.Contains(err.Error(), env("REASON")) {
		return "", fmt.Errorf("said: %v", err)
	}
	return "`Number` 1045 and the reason", expect(number(err), 1045)
}

func prepared() (string, error) {
	statement, err := session(nil).Prepare("select ? * 2")
	if err != nil {
		return "", err
	}
	for _, n := range []int{21, 4} {
		var twice float64
		if err := statement.QueryRow(n).Scan(&twice); err != nil {
			return "", err
		}
		if err := expect(twice, n*2); err != nil {
			return "", err
		}
	}
	return "", nil
}

func duplicate() (string, error) {
	pool := session(nil)
	if _, err := pool.Exec(table); err != nil {
		return "", err
	}
	transaction, err := pool.Begin()
	if err != nil {
		return "", err
	}
	if _, err := transaction.Exec("insert into t values (1, 'one')"); err != nil {
		return "", err
	}
	_, err = transaction.Exec("insert into t values (1, 'two')")
	if err := expect(number(err), 1062); err != nil {
		return "", err
	}
	if err := transaction.Rollback(); err != nil {
		return "", err
	}
	count, err := one(pool, "select count(*) from t")
	if err != nil {
		return "", err
	}
	return "", expect(count, 0)
}

func multi() (string, error) {
	rows, err := session(func(c *mysql.Config) { c.MultiStatements = true }).Query("select 1; select 2; select 3")
	if err != nil {
		return "", err
	}
	found := []int{}
	for more := true; more; more = rows.NextResultSet() {
		for rows.Next() {
			var n int
			if err := rows.Scan(&n); err != nil {
				return "", err
			}
			found = append(found, n)
		}
	}
	return "`multiStatements=true`", expect(found, []int{1, 2, 3})
}

func infile() (string, error) {
	text := strings.Builder{}
	for n := 0; n < 10000; n++ {
		fmt.Fprintf(&text, "%d\ttext, %d ü\n", n, n)
	}
	path := env("DIR") + "/rows"
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return "", err
	}
	mysql.RegisterLocalFile(path)
	pool := session(nil)
	for _, statement := range []string{
		table, "load data local infile '" + path + "' into table t character set utf8mb4",
	} {
		if _, err := pool.Exec(statement); err != nil {
			return "", err
		}
	}
	rows, err := pool.Query("select n, text from t order by n")
	if err != nil {
		return "", err
	}
	taken := strings.Builder{}
	for rows.Next() {
		var n int
		var line string
		if err := rows.Scan(&n, &line); err != nil {
			return "", err
		}
		fmt.Fprintf(&taken, "%d\t%s\n", n, line)
	}
	return "`RegisterLocalFile()`", expect(taken.String() == text.String(), true)
}

func cancel() (string, error) {
	pool, other := session(nil), session(nil)
	id, err := one(pool, "select connection_id()")
	if err != nil {
		return "", err
	}
	failed := make(chan error)
	go func() {
		_, err := one(pool, env("SLEEP_SQL"))
		failed <- err
	}()
	ask("sleeping")
	if _, err := other.Exec("kill query " + id); err != nil {
		return "", err
	}
	if err := expect(number(<-failed), 1317); err != nil {
		return "", err
	}
	seven, err := one(pool, "select 7")
	if err != nil {
		return "", err
	}
	return "`KILL QUERY` with `connection_id()`; a context that ends closes the connection", expect(seven, 7)
}

func big() (string, error) {
	rows, err := session(nil).Query(env("BIG_SQL"))
	if err != nil {
		return "", err
	}
	digest, length := sha256.New(), 0
	for rows.Next() {
		var line sql.RawBytes
		if err := rows.Scan(&line); err != nil {
			return "", err
		}
		digest.Write(line)
		length += len(line)
	}
	sum := hex.EncodeToString(digest.Sum(nil))
	return "", expect([]string{fmt.Sprint(length), sum}, []string{fmt.Sprint(51200 * 1024), env("BIG_SHA256")})
}

func row() (string, error) {
	text, err := one(session(nil), fmt.Sprintf("select repeat('x', %d)", rowLength))
	if err != nil {
		return "", err
	}
	return "`maxAllowedPacket`", expect(len(text), rowLength)
}

func drain() (string, error) {
	pool := session(nil)
	held, err := pool.Conn(background)
	if err != nil {
		return "", err
	}
	ask("restart")
	_, err = held.ExecContext(background, "do 1")
	if err == nil {
		return "", errors.New("the old session goes on")
	}
	held.Close()
	name, again := user(pool)
	if again != nil {
		return "", again
	}
	return fmt.Sprintf("`%v`; the pool connects again by itself", err), expect(name, env("USER"))
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "login" {
		name, err := user(open(env("JWT_"+os.Args[2]), env("HOST"), env("CA"), nil))
		if err != nil {
			fmt.Print(err)
			os.Exit(1)
		}
		fmt.Print(name)
		return
	}
	say(map[string]string{"version": driver})
	for _, size := range []string{"800", "3000", "16000", "20000"} {
		login(size)
	}
	check("verify", verify)
	check("refused", refused)
	check("prepared", prepared)
	check("error", duplicate)
	check("multi", multi)
	check("infile", infile)
	check("cancel", cancel)
	check("big", big)
	check("row", row)
	say(map[string]string{"check": "reset", "result": "absent", "note": "the driver has no such command"})
	check("drain", drain)
}
