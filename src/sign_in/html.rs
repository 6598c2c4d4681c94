//! The pages as HTML. Each text from outside goes through [`escaped`].

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::access::{DatabaseAccess, Explanation, PersonAccess};
use super::mysql_tools;
use super::tools::{self, CA_FILE};
use crate::config::DatabaseProtocol;

const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");

/// Room of a page with a token, so that the text is not moved while it grows.
const ROOM: usize = 256 * 1024;

/// `Content-Security-Policy` of all pages: the style and the script of this file, and nothing from elsewhere.
pub(super) fn content_security_policy() -> String {
    let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// The first page.
pub(super) fn welcome() -> String {
    let body = "<h1>Sign in to your databases</h1>\
        <p>Sign in with your company account. You get the settings for your tool, and a token that is your password for a \
        short time.</p>\
        <p><a class=\"button\" href=\"/start\">Sign in</a></p>\
        <p class=\"soft\">If you can install a program on your machine, <code>pgpassport login</code> is more comfortable: \
        tools then need no token.</p>";
    page("Sign in", body, false)
}

/// A sign-in that has not succeeded.
pub(super) fn failure(why: &Explanation) -> String {
    let mut body = String::from("<h1>Not signed in</h1><div class=\"card\" role=\"alert\"><p class=\"bad\">");
    body.push_str(&escaped(&sentence(&why.detail)));
    body.push_str("</p>");
    if let Some(hint) = &why.hint {
        let _ = write!(body, "<p>{}</p>", escaped(hint)); // to a String
    }
    body.push_str("</div><p><a class=\"button\" href=\"/start\">Try again</a></p>");
    page("Not signed in", &body, false)
}

/// The page of a person who has signed in. `seconds` is the remaining life of `token`.
pub(super) fn signed_in(access: &PersonAccess, token: &str, seconds: u64, own_ca: bool) -> Zeroizing<String> {
    let mut body = Zeroizing::new(String::with_capacity(ROOM));
    let _ = write!(
        body,
        "<h1>You are signed in</h1><p>Signed in as <strong>{}</strong>.</p>",
        escaped(&access.subject)
    );
    match (&access.databases[..], &access.problem) {
        ([], problem) => body.push_str(&nothing(problem.as_ref())),
        (databases, _) => {
            body.push_str(&token_card(token, seconds));
            if own_ca {
                let _ = write!(
                    body,
                    "<p>Tools that verify the server need its authority: <a href=\"/{CA_FILE}\" download>{CA_FILE}</a>.</p>"
                );
            }
            for (number, one) in databases.iter().enumerate() {
                body.push_str(&database(one, own_ca, number == 0));
            }
        }
    }
    Zeroizing::new(page("Signed in", &body, true))
}

fn nothing(problem: Option<&Explanation>) -> String {
    let mut body = String::from(
        "<div class=\"card\" role=\"alert\"><p class=\"bad\">No database is open to you here.</p>",
    );
    if let Some(problem) = problem {
        let hint = problem.hint.as_deref().unwrap_or_default();
        let _ = write!(body, "<p>{} {}</p>", escaped(&sentence(&problem.detail)), escaped(hint));
    } else {
        body.push_str("<p>Ask the administrators of your databases for access.</p>");
    }
    body.push_str("</div>");
    body
}

/// The token is in a field that is not shown before it is asked for; the button copies it from there.
fn token_card(token: &str, seconds: u64) -> String {
    let mut card = String::with_capacity(ROOM / 4);
    card.push_str(
        "<section class=\"card\" aria-labelledby=\"token-title\"><h2 id=\"token-title\">Your token</h2>\
         <p>It is your password in every tool. Anyone who has it can act as you: do not send it, and do not save it.</p>\
         <p class=\"row\"><button type=\"button\" id=\"copy\" hidden>Copy the token</button>",
    );
    let _ = write!(
        card,
        "<span id=\"left\" data-seconds=\"{seconds}\">{}</span><span id=\"said\" class=\"said\" role=\"status\"></span></p>\
         <details><summary>Show the token</summary><label for=\"token\">Token</label>\
         <textarea id=\"token\" readonly autocomplete=\"off\" spellcheck=\"false\">{}</textarea></details></section>",
        life(seconds),
        escaped(token)
    );
    card
}

/// Remaining life, where no script counts it.
fn life(seconds: u64) -> String {
    match seconds / 60 {
        0 => format!("Good for {seconds} s from now"),
        1 => "Good for 1 minute from now".to_owned(),
        minutes => format!("Good for {minutes} minutes from now"),
    }
}

fn database(access: &DatabaseAccess, own_ca: bool, open: bool) -> String {
    let name = access.database.as_deref();
    let title = name.map_or_else(|| format!("Cluster {}", access.cluster), |name| format!("Database {name}"));
    // A person who has both kinds reads which one a database is.
    let (title, ssl_mode, settings) = match access.protocol {
        DatabaseProtocol::PostgreSql => (title, "verify-full", tools::of(access, own_ca)),
        DatabaseProtocol::MySql => {
            (format!("{title} (MySQL)"), "VERIFY_IDENTITY", mysql_tools::of(access, own_ca))
        }
    };
    let mut body = format!(
        "<section><h2>{}</h2><p>You are the database user <strong>{}</strong> there{}.</p>",
        escaped(&title),
        escaped(&access.user),
        if access.read_only { "; sessions begin read-only" } else { "" }
    );
    if name.is_none() {
        body.push_str("<p>Write the name of your database in the place of DATABASE.</p>");
    }
    body.push_str("<dl>");
    for (term, value) in [
        ("Host", access.host.as_str()),
        ("Port", &access.port.to_string()),
        ("Database", tools::database(access)),
        ("User", &access.user),
        ("Password", "the token"),
        ("SSL mode", ssl_mode),
    ] {
        let _ = write!(body, "<dt>{term}</dt><dd>{}</dd>", escaped(value));
    }
    body.push_str("</dl>");
    for (number, tool) in settings.into_iter().enumerate() {
        let opened = if open && number == 0 { " open" } else { "" };
        let _ = write!(
            body,
            "<details{opened}><summary>{}</summary><p>{}</p>",
            escaped(tool.name),
            escaped(&tool.how)
        );
        for (system, paste) in &tool.paste {
            if let Some(system) = system {
                let _ = write!(body, "<p class=\"soft\">{}</p>", escaped(system));
            }
            let _ = write!(body, "<pre>{}</pre>", escaped(paste));
        }
        body.push_str("</details>");
    }
    body.push_str("</section>");
    body
}

fn page(title: &str, body: &str, script: bool) -> String {
    let script = if script { format!("<script>{SCRIPT}</script>") } else { String::new() };
    let mut page = String::with_capacity(body.len() + 8 * 1024);
    let _ = write!(
        page,
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><title>{} – pgpassport</title><style>{STYLE}</style></head>\
         <body><main>{body}</main>{script}</body></html>",
        escaped(title)
    );
    page
}

/// A text with a capital first letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase).into_iter().flatten();
    let whole: String = first.chain(letters).collect();
    if whole.ends_with(['.', '!', '?']) { whole } else { whole + "." }
}

/// Text for element content and quoted attributes (HTML Living Standard, section 13.1.2).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_outside_are_escaped_on_every_page() {
        let evil = "<script>alert(1)</script>\"'&";
        let shown = |html: &str| {
            assert!(!html.contains("<script>alert"), "{html}");
            assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"), "{html}");
        };
        let why = Explanation { detail: evil.to_owned(), hint: Some(evil.to_owned()) };
        shown(&failure(&why));
        let one = DatabaseAccess {
            protocol: DatabaseProtocol::PostgreSql,
            host: evil.to_owned(),
            port: 1,
            database: Some(evil.to_owned()),
            user: evil.to_owned(),
            cluster: evil.to_owned(),
            read_only: true,
        };
        let mut access = PersonAccess {
            subject: evil.to_owned(),
            expires_at: std::time::UNIX_EPOCH,
            databases: vec![
                one.clone(),
                DatabaseAccess { database: None, ..one.clone() },
                DatabaseAccess { protocol: DatabaseProtocol::MySql, ..one },
            ],
            problem: Some(why),
        };
        shown(&signed_in(&access, evil, 61, true));
        access.databases.clear();
        shown(&signed_in(&access, evil, 61, true));
    }

    #[test]
    fn a_page_without_a_database_has_no_token_and_no_page_has_another_origin() {
        let access = PersonAccess {
            subject: "alice".to_owned(),
            expires_at: std::time::UNIX_EPOCH,
            databases: Vec::new(),
            problem: None,
        };
        let page = signed_in(&access, "eyJ.secret", 60, true);
        assert!(!page.contains("eyJ.secret") && page.contains("No database is open to you"), "{}", *page);
        for page in [&page, &welcome()] {
            assert!(
                !page.contains("http:") && !page.contains("https:") && !page.contains("style="),
                "{page}"
            );
        }
        let policy = content_security_policy();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    }
}
