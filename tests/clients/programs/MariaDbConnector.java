// MariaDB Connector/J: java -cp JAR MariaDbConnector.java

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Callable;

public class MariaDbConnector {
    static final String TOKEN = env("JWT_3000");
    static final String PLACE = env("HOST") + ":" + env("PORT");
    static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in));
    static final int ROW_LENGTH = 17 * 1024 * 1024;
    static final String TABLE =
            "create temporary table t (n int primary key, text varchar(40)) character set utf8mb4";

    static String env(String name) {
        return System.getenv("MATRIX_" + name);
    }

    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : String.valueOf(text).toCharArray()) {
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

    static Connection connectTo(String token, String place, String ca, String... more) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", env("USER"));
        properties.setProperty("password", token);
        // Names of version 2 and of version 3.
        properties.setProperty("useSsl", "true");
        properties.setProperty("sslMode", "verify-full");
        properties.setProperty("serverSslCert", ca);
        for (int i = 0; i < more.length; i += 2) properties.setProperty(more[i], more[i + 1]);
        String url = "jdbc:mariadb://" + place + "/" + env("DATABASE");
        return DriverManager.getConnection(url, properties);
    }

    static Connection connect(String token, String... more) throws SQLException {
        return connectTo(token, PLACE, env("CA"), more);
    }

    static String one(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getString(1);
        }
    }

    static String user(String token, String... more) throws SQLException {
        try (Connection connection = connect(token, more)) {
            return one(connection, "select current_user()").split("@")[0];
        }
    }

    static void refusedByTls(SQLException error) {
        StringBuilder said = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) said.append(cause.getMessage());
        if (!said.toString().matches("(?s).*(certif|PKIX|DNS host|hostname).*")) throw new AssertionError(said.toString());
    }

    static String refused() throws Exception {
        SQLException error = failure(() -> connect(env("JWT_EXPIRED")));
        expect(error.getErrorCode() + " " + error.getSQLState(), "1045 28000");
        expect(error.getMessage().contains(env("REASON")), true);
        return "error code 1045, SQLState 28000, and the reason";
    }

    static String prepared() throws Exception {
        try (Connection connection = connect(TOKEN, "useServerPrepStmts", "true");
                PreparedStatement statement = connection.prepareStatement("select ? * 2")) {
            for (int n : List.of(21, 4)) {
                statement.setInt(1, n);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    expect(rows.getInt(1), n * 2);
                }
            }
        }
        return "`useServerPrepStmts=true`";
    }

    static String error() throws Exception {
        try (Connection connection = connect(TOKEN); Statement statement = connection.createStatement()) {
            statement.execute(TABLE);
            connection.setAutoCommit(false);
            statement.execute("insert into t values (1, 'one')");
            SQLException error = failure(() -> statement.execute("insert into t values (1, 'two')"));
            expect(error.getErrorCode() + " " + error.getSQLState(), "1062 23000");
            connection.rollback();
            expect(one(connection, "select count(*) from t"), 0);
        }
        return "";
    }

    static String multi() throws Exception {
        try (Connection connection = connect(TOKEN, "allowMultiQueries", "true");
                Statement statement = connection.createStatement()) {
            List<Integer> found = new ArrayList<>();
            boolean more = statement.execute("select 1; select 2; select 3");
            while (more) {
                ResultSet rows = statement.getResultSet();
                while (rows.next()) found.add(rows.getInt(1));
                more = statement.getMoreResults();
            }
            expect(found, List.of(1, 2, 3));
        }
        return "`allowMultiQueries=true`";
    }

    static String infile() throws Exception {
        StringBuilder rows = new StringBuilder();
        for (int n = 0; n < 10_000; n++) rows.append(n).append("\ttext, ").append(n).append(" ü\n");
        Path path = Path.of(env("DIR"), "rows");
        Files.writeString(path, rows);
        try (Connection connection = connect(TOKEN, "allowLocalInfile", "true");
                Statement statement = connection.createStatement()) {
            statement.execute(TABLE);
            statement.execute("load data local infile '" + path + "' into table t character set utf8mb4");
            StringBuilder taken = new StringBuilder();
            try (ResultSet found = statement.executeQuery("select n, text from t order by n")) {
                while (found.next()) taken.append(found.getInt(1)).append('\t').append(found.getString(2)).append('\n');
            }
            if (!taken.toString().contentEquals(rows)) throw new AssertionError("other rows came back");
        }
        return "`allowLocalInfile=true`";
    }

    static String cancel() throws Exception {
        try (Connection connection = connect(TOKEN); Statement statement = connection.createStatement()) {
            String id = one(connection, "select connection_id()");
            Thread canceller = new Thread(() -> {
                try {
                    ask("sleeping");
                    statement.cancel();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            canceller.start();
            expect(failure(() -> statement.execute(env("SLEEP_SQL"))).getErrorCode(), 1317);
            canceller.join();
            expect(one(connection, "select connection_id()"), id);
            statement.setQueryTimeout(1);
            failure(() -> statement.execute(env("SLEEP_SQL")));
            expect(one(connection, "select connection_id()"), id);
        }
        return "`Statement.cancel()` and `setQueryTimeout()`, which send `KILL QUERY`";
    }

    static String big() throws Exception {
        try (Connection connection = connect(TOKEN); Statement statement = connection.createStatement()) {
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

    static String row() throws Exception {
        try (Connection connection = connect(TOKEN)) {
            expect(one(connection, "select repeat('x', " + ROW_LENGTH + ")").length(), ROW_LENGTH);
        }
        return "";
    }

    static String reset() throws Exception {
        try (Connection connection = connect(TOKEN, "useResetConnection", "true")) {
            one(connection, "select @kept := 7");
            // A method of the driver's own class.
            connection.getClass().getMethod("reset").invoke(connection);
            expect(one(connection, "select @kept"), null);
        }
        return "`reset()`, which a pool does with `useResetConnection=true`";
    }

    static String drain() throws Exception {
        Connection idle = connect(TOKEN);
        ask("restart");
        SQLException error = failure(() -> one(idle, "select 1"));
        expect(user(TOKEN), env("USER"));
        return "SQLState " + error.getSQLState() + "; `isValid()` is " + idle.isValid(5);
    }

    public static void main(String[] arguments) throws Exception {
        say("version", driverVersion());
        for (String size : List.of("800", "3000", "16000", "20000")) {
            check("login-" + size, () -> {
                expect(user(env("JWT_" + size)), env("USER"));
                return "";
            });
        }
        check("verify", () -> {
            refusedByTls(failure(() -> connectTo(TOKEN, PLACE, env("OTHER_CA"))));
            refusedByTls(failure(() -> connectTo(TOKEN, env("OTHER_HOST") + ":" + env("OTHER_PORT"), env("CA"))));
            return "";
        });
        check("refused", MariaDbConnector::refused);
        check("prepared", MariaDbConnector::prepared);
        check("error", MariaDbConnector::error);
        check("multi", MariaDbConnector::multi);
        check("infile", MariaDbConnector::infile);
        check("cancel", MariaDbConnector::cancel);
        check("big", MariaDbConnector::big);
        check("row", MariaDbConnector::row);
        if (behind().equals("MariaDB")) check("reset", MariaDbConnector::reset);
        else say("check", "reset", "result", "absent", "note", "`useResetConnection` works with MariaDB only");
        check("drain", MariaDbConnector::drain);
        System.exit(0);
    }

    static String behind() throws SQLException {
        try (Connection connection = connect(TOKEN)) {
            return connection.getMetaData().getDatabaseProductName();
        }
    }

    static String driverVersion() throws SQLException {
        try (Connection connection = connect(TOKEN)) {
            return connection.getMetaData().getDriverVersion();
        }
    }
}
