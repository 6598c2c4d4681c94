//! The screen in the rows of the terminal.

/// The first `rows` lines of `text`. A text that is longer loses its empty lines first, and then its end; the last line says how
/// many are missing.
pub(super) fn fit(text: &str, rows: usize) -> String {
    if text.lines().count() <= rows {
        return text.to_owned();
    }
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    if lines.len() <= rows {
        return lines.join("\n");
    }
    let kept = rows.saturating_sub(1);
    let mut shown: Vec<_> = lines.iter().take(kept).copied().collect();
    let more = format!("… {} more lines: make the terminal taller", lines.len() - shown.len());
    shown.push(&more);
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_always_there() {
        let text = "head\n\none\ntwo\n\nthree\n";
        for (rows, shown) in [
            (6, text),
            (9, text),
            (5, "head\none\ntwo\nthree"),
            (4, "head\none\ntwo\nthree"),
            (3, "head\none\n… 2 more lines: make the terminal taller"),
            (1, "… 4 more lines: make the terminal taller"),
        ] {
            assert_eq!(fit(text, rows), shown, "{rows}");
        }
    }
}
