//! Metrics in Prometheus's text format, read into series, and what they say over a period: increases and quantiles.

use std::collections::BTreeMap;

/// Series by name. Comments and lines that are no samples are skipped.
#[derive(Debug, Default)]
pub(super) struct Scrape(BTreeMap<String, Vec<Series>>);

/// A series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Series {
    /// Value of a label; empty if there is none.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    fn has(&self, wanted: &[(&str, &str)]) -> bool {
        wanted.iter().all(|(name, value)| self.label(name) == *value)
    }
}

impl Scrape {
    pub(super) fn parse(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, series)) = sample(line) {
                all.0.entry(name.to_owned()).or_default().push(series);
            }
        }
        all
    }

    /// Series of a name.
    pub(super) fn series(&self, name: &str) -> &[Series] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Sum of the series of a name that have these labels.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name).iter().filter(|series| series.has(labels)).map(|series| series.value).sum()
    }

    /// Increase of a counter since `before`; a restart of the proxy counts from 0.
    pub(super) fn increase(&self, before: &Self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let (then, now) = (before.sum(name, labels), self.sum(name, labels));
        if now < then { now } else { now - then }
    }

    /// Quantile of the events of a histogram since `before`: the upper bound of its bucket, in seconds. `None` without
    /// events.
    pub(super) fn quantile(
        &self,
        before: &Self,
        name: &str,
        labels: &[(&str, &str)],
        part: f64,
    ) -> Option<f64> {
        let mut buckets: Vec<_> = self.series(name).iter().filter(|series| series.has(labels)).collect();
        buckets.sort_unstable_by(|a, b| bound(a).total_cmp(&bound(b)));
        let increase = |bucket: &Series| {
            let own = [labels, &[("le", bucket.label("le"))]].concat();
            self.increase(before, name, &own)
        };
        let all = buckets.last().map(|bucket| increase(bucket)).filter(|all| *all > 0.0)?;
        buckets.iter().find(|bucket| increase(bucket) >= part * all).map(|bucket| bound(bucket))
    }
}

fn bound(bucket: &Series) -> f64 {
    match bucket.label("le") {
        "+Inf" => f64::INFINITY,
        bound => bound.parse().unwrap_or(f64::INFINITY),
    }
}

/// Name, labels, and value of a line.
fn sample(line: &str) -> Option<(&str, Series)> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at_checked(end)?;
    let (labels, value) = match rest.strip_prefix('{') {
        Some(labels) => parse_labels(labels)?,
        None => (Vec::new(), rest),
    };
    let value = value.split_whitespace().next()?.parse().ok()?;
    Some((name, Series { labels, value }))
}

/// Labels up to the closing brace, and the rest of the line.
fn parse_labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches(',');
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        text = quoted.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_with_their_labels() {
        let scrape = Scrape::parse(
            "# HELP a b\na 1\na_total{x=\"1\",y=\"q\\\"},\\\\\\n\"} 2.5 123\na_total{x=\"2\"} 4\nbroken{x=\"1\nbroken\nc{} NaN\n",
        );
        assert!((scrape.sum("a", &[]) - 1.0).abs() < 1e-9);
        assert!((scrape.sum("a_total", &[]) - 6.5).abs() < 1e-9);
        assert!((scrape.sum("a_total", &[("x", "2")]) - 4.0).abs() < 1e-9);
        assert_eq!(scrape.series("a_total")[0].label("y"), "q\"},\\\n");
        assert!(scrape.series("broken").is_empty() && scrape.series("c")[0].value.is_nan());
        assert_eq!(scrape.series("a_total")[1].label("none"), "");
    }

    #[test]
    fn quantiles_are_those_of_the_period() {
        let before = Scrape::parse(
            "s_bucket{step=\"sts\",le=\"0.1\"} 100\ns_bucket{step=\"sts\",le=\"1.0\"} 100\ns_bucket{step=\"sts\",le=\"+Inf\"} 100\n",
        );
        let after = Scrape::parse(
            "s_bucket{step=\"sts\",le=\"0.1\"} 102\ns_bucket{step=\"sts\",le=\"1.0\"} 110\ns_bucket{step=\"sts\",le=\"+Inf\"} 110\n\
             s_bucket{step=\"pool\",le=\"+Inf\"} 0\n",
        );
        let of = |step, part| after.quantile(&before, "s_bucket", &[("step", step)], part);
        assert_eq!(of("sts", 0.5), Some(1.0));
        assert_eq!(of("sts", 0.1), Some(0.1));
        assert_eq!(of("pool", 0.5), None);
        assert_eq!(of("none", 0.5), None);
        let restarted = before.increase(&after, "s_bucket", &[("le", "0.1")]);
        assert!((restarted - 100.0).abs() < 1e-9);
    }
}
