//! `docs/runbooks.md` as a page: a renderer for the Markdown that this one document uses.

use std::fmt::Write;

use super::html::Escaped;
use super::status::document;

const TEXT: &str = include_str!("../../docs/runbooks.md");

/// The page.
pub(super) fn page() -> String {
    let mut body = String::from("<header><h1><a href=\"./\">pgpassport</a></h1></header><article>");
    let mut blocks = Blocks::default();
    for line in TEXT.lines() {
        blocks.line(line, &mut body);
    }
    blocks.end(&mut body);
    body.push_str("</article>");
    document("pgpassport: runbooks", None, &body)
}

/// The block that is being read.
#[derive(Default)]
struct Blocks {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Paragraph,
    Item,
    Code,
}

impl Blocks {
    fn line(&mut self, line: &str, html: &mut String) {
        if line.starts_with("```") {
            let was_code = self.kind == Kind::Code;
            self.end(html);
            self.kind = if was_code { Kind::Paragraph } else { Kind::Code };
        } else if self.kind == Kind::Code {
            let _ = writeln!(self.text, "{}", Escaped(line));
        } else if let Some(title) = line.strip_prefix("## ") {
            self.end(html);
            let _ = write!(html, "<h2 id=\"{}\">{}</h2>", title.to_lowercase(), inline(title));
        } else if let Some(title) = line.strip_prefix("# ") {
            self.end(html);
            let _ = write!(html, "<h1>{}</h1>", inline(title));
        } else if let Some(item) = line.strip_prefix("- ") {
            self.end(html);
            (self.kind, self.text) = (Kind::Item, item.to_owned());
        } else if line.is_empty() {
            self.end(html);
            self.kind = Kind::Paragraph;
        } else {
            if !self.text.is_empty() {
                self.text.push(' ');
            }
            self.text.push_str(line.trim());
        }
    }

    /// Writes the block, if there is one.
    fn end(&mut self, html: &mut String) {
        let text = std::mem::take(&mut self.text);
        if text.is_empty() {
            return;
        }
        let _ = match self.kind {
            Kind::Paragraph => write!(html, "<p>{}</p>", inline(&text)),
            Kind::Item => write!(html, "<ul class=\"text\"><li>{}</li></ul>", inline(&text)),
            Kind::Code => write!(html, "<pre><code>{text}</code></pre>"),
        };
        self.kind = Kind::Paragraph;
    }
}

/// Code, bold text, and links. Links to other documents become their titles.
fn inline(text: &str) -> String {
    let mut html = String::new();
    for (number, part) in text.split('`').enumerate() {
        if number % 2 == 1 {
            let _ = write!(html, "<code>{}</code>", Escaped(part));
            continue;
        }
        for (number, part) in part.split("**").enumerate() {
            let part = links(part);
            let _ = if number % 2 == 1 { write!(html, "<b>{part}</b>") } else { write!(html, "{part}") };
        }
    }
    html
}

fn links(text: &str) -> String {
    let mut html = String::new();
    let mut rest = text;
    while let Some((before, (title, target, after))) = rest.split_once('[').and_then(|(before, link)| {
        let (title, link) = link.split_once("](")?;
        let (target, after) = link.split_once(')')?;
        Some((before, (title, target, after)))
    }) {
        let (title, before) = (Escaped(title), Escaped(before));
        let _ = match target.strip_prefix('#') {
            Some(anchor) => write!(html, "{before}<a href=\"#{}\">{title}</a>", Escaped(anchor)),
            None => write!(html, "{before}{title} (docs/{})", Escaped(target)),
        };
        rest = after;
    }
    let _ = write!(html, "{}", Escaped(rest));
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_becomes_a_page_with_an_anchor_for_each_alert() {
        let page = page();
        assert!(TEXT.matches("\n## ").count() > 20);
        assert_eq!(page.matches("<h2 id=\"pgpassport").count(), TEXT.matches("\n## ").count());
        assert_eq!(page.matches("<li>").count(), TEXT.matches("\n- ").count());
        assert_eq!(page.matches("<code>").count(), page.matches("</code>").count());
        let targets = page.split("href=\"#").skip(1).map(|link| link.split('"').next().unwrap());
        for target in targets {
            assert!(page.contains(&format!("id=\"{target}\"")), "{target}");
        }
        for markdown in ["**", "](", "```"] {
            assert!(!page.contains(markdown), "{markdown}");
        }
        assert_eq!(
            inline("**a** `<b>` [c](#d), [e](pool.md#what-is-kept)."),
            "<b>a</b> <code>&lt;b&gt;</code> <a href=\"#d\">c</a>, e (docs/pool.md#what-is-kept)."
        );
    }
}
