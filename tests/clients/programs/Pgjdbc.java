// pgjdbc: java -cp JAR Pgjdbc.java

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Callable;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PSQLException;

public class Pgjdbc {
    static final String TOKEN = env("JWT_3000");
    static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in));

    static String env(String name) {
        return System.getenv("MATRIX_" + name);
    }

    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < ' ') out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }

    static synchronized void say(String... fields) {
        StringBuilder out = new StringBuilder("{");
        for (int i = 0; i < fields.length; i += 2) {
            out.append(i == 0 ? "" : ", ").append(quoted(fields[i])).append(": ").append(quoted(fields[i + 1]));
        }
        byte[] line = out.append("}\n").toString().getBytes(StandardCharsets.UTF_8);
        System.out.write(line, 0, line.length);
        System.out.flush();
    }

    static void check(String name, Callable<String> work) {
        try {
            say("check", name, "result", "ok", "note", work.call());
        } catch (Throwable error) {
            say("check", name, "result", "failed", "note", String.valueOf(error));
        }
    }

    static void shown(String kind, String text, Callable<Boolean> work) throws Exception {
        say(kind, text, "result", work.call() ? "ok" : "failed");
    }

    static void ask(String what) throws Exception {
        say("await", what);
        if (ANSWERS.readLine() == null) throw new IllegalStateException("the runner has gone");
    }

    static void expect(Object got, Object wanted) {
        if (!String.valueOf(got).equals(String.valueOf(wanted))) {
            throw new AssertionError(got + " instead of " + wanted);
        }
    }

    static SQLException failure(Callable<?> work) throws Exception {
        try {
            work.call();
        } catch (SQLException error) {
            return error;
        }
        throw new AssertionError("it did not fail");
    }

    static Connection connectTo(String token, String host, String ca, String... more) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", env("USER"));
        properties.setProperty("password", token);
        properties.setProperty("sslmode", "verify-full");
        properties.setProperty("sslrootcert", ca);
        properties.setProperty("gssEncMode", "disable");
        for (int i = 0; i < more.length; i += 2) properties.setProperty(more[i], more[i + 1]);
        String url = "jdbc:postgresql://" + host + ":" + env("PORT") + "/" + env("DATABASE");
        return DriverManager.getConnection(url, properties);
    }

    static Connection connect(String token, String... more) throws SQLException {
        return connectTo(token, env("HOST"), env("CA"), more);
    }

    static String one(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getString(1);
        }
    }

    static String user(String token, String... more) throws SQLException {
        try (Connection connection = connect(token, more)) {
            return one(connection, "select current_user");
        }
    }

    static void refusedByTls(SQLException error) {
        StringBuilder said = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) said.append(cause.getMessage());
        if (!said.toString().matches("(?s).*(certif|PKIX|hostname).*")) throw new AssertionError(said.toString());
    }

    static String drain() throws Exception {
        Connection idle = connect(TOKEN);
        ask("restart");
        SQLException error = failure(() -> one(idle, "select 1"));
        expect(user(TOKEN), env("USER"));
        return "SQLState " + error.getSQLState() + "; `isValid()` is " + idle.isValid(5);
    }

    static String cancel() throws Exception {
        try (Connection connection = connect(TOKEN); Statement statement = connection.createStatement()) {
            String pid = one(connection, "select pg_backend_pid()");
            Thread canceller = new Thread(() -> {
                try {
                    ask("sleeping");
                    statement.cancel();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            canceller.start();
            expect(failure(() -> statement.execute(env("SLEEP_SQL"))).getSQLState(), "57014");
            canceller.join();
            expect(one(connection, "select pg_backend_pid()"), pid);
            return "`Statement.cancel()`";
        }
    }

    static String copy() throws Exception {
        StringBuilder rows = new StringBuilder();
        for (int n = 0; n < 10_000; n++) rows.append(n).append("\ttext, ").append(n).append(" ü\n");
        try (Connection connection = connect(TOKEN)) {
            connection.createStatement().execute("create temp table t (n int, text text)");
            var manager = connection.unwrap(PGConnection.class).getCopyAPI();
            manager.copyIn("copy t from stdin", new StringReader(rows.toString()));
            StringWriter taken = new StringWriter();
            manager.copyOut("copy t to stdout", taken);
            if (!taken.toString().contentEquals(rows)) throw new AssertionError("other rows came back");
        }
        return "`CopyManager`";
    }

    static String big() throws Exception {
        try (Connection connection = connect(TOKEN); Statement statement = connection.createStatement()) {
            connection.setAutoCommit(false);
            statement.setFetchSize(1_000);
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            long length = 0;
            try (ResultSet rows = statement.executeQuery(env("BIG_SQL"))) {
                while (rows.next()) {
                    byte[] line = rows.getBytes(1);
                    digest.update(line);
                    length += line.length;
                }
            }
            expect(length, 51_200L * 1_024);
            expect(HexFormat.of().formatHex(digest.digest()), env("BIG_SHA256"));
        }
        return "with `fetchSize`";
    }

    static String notification() throws Exception {
        try (Connection listener = connect(TOKEN); Connection speaker = connect(TOKEN)) {
            listener.createStatement().execute("listen matrix");
            speaker.createStatement().execute("notify matrix, 'hello'");
            PGNotification[] heard = listener.unwrap(PGConnection.class).getNotifications(30_000);
            expect(heard[0].getName() + " " + heard[0].getParameter(), "matrix hello");
        }
        return "`getNotifications(timeout)`";
    }

    static String prepared() throws Exception {
        // The driver prepares on the server from the fifth execution on; here from the first.
        try (Connection connection = connect(TOKEN, "prepareThreshold", "1");
                PreparedStatement statement = connection.prepareStatement("select ?::int * 2")) {
            for (int n : List.of(21, 4)) {
                statement.setInt(1, n);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    expect(rows.getInt(1), n * 2);
                }
            }
            String count = "select count(*) from pg_prepared_statements where statement like '%* 2'";
            expect(one(connection, count), 1);
        }
        return "";
    }

    static String error() throws Exception {
        try (Connection connection = connect(TOKEN)) {
            connection.setAutoCommit(false);
            expect(failure(() -> one(connection, "select 1/0")).getSQLState(), "22012");
            expect(failure(() -> one(connection, "select 1")).getSQLState(), "25P02");
            connection.rollback();
            expect(one(connection, "select 7"), 7);
        }
        return "";
    }

    static String refused() throws Exception {
        SQLException error = failure(() -> connect(env("JWT_EXPIRED")));
        var fields = ((PSQLException) error).getServerErrorMessage();
        expect(error.getSQLState(), "28P01");
        expect(fields.getDetail().contains("the token expired") && fields.getHint() != null, true);
        return "SQLState 28P01, detail and hint in the message";
    }

    public static void main(String[] arguments) throws Exception {
        String version = new org.postgresql.Driver().getClass().getPackage().getImplementationVersion();
        say("version", version);
        for (String size : List.of("800", "3000", "16000")) {
            check("login-" + size, () -> {
                expect(user(env("JWT_" + size)), env("USER"));
                return "";
            });
        }
        check("verify", () -> {
            refusedByTls(failure(() -> connectTo(TOKEN, env("HOST"), env("OTHER_CA"))));
            refusedByTls(failure(() -> connectTo(TOKEN, env("OTHER_HOST"), env("CA"))));
            return "";
        });
        check("refused", Pgjdbc::refused);
        check("prepared", Pgjdbc::prepared);
        check("error", Pgjdbc::error);
        check("copy", Pgjdbc::copy);
        check("cancel", Pgjdbc::cancel);
        check("big", Pgjdbc::big);
        check("notify", Pgjdbc::notification);
        check("drain", Pgjdbc::drain);
        if (!version.startsWith("42.5.")) {
            shown("extra", "direct TLS (`sslNegotiation=direct`)",
                    () -> user(TOKEN, "sslNegotiation", "direct").equals(env("USER")));
            shown("limit", "`channelBinding=require` refuses to send a token",
                    () -> failure(() -> user(TOKEN, "channelBinding", "require")).getMessage().contains("hannel"));
        }
        System.exit(0);
    }
}
