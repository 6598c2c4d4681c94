//! `[traces]`: traces of logins, sent to a collector by OTLP/HTTP.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::reader::SectionReader;
use super::readers::web_address;

/// `[traces]` with an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// URL to which batches of spans are posted.
    pub endpoint: url::Url,
    /// File with headers of the requests, one `Name: value` a line.
    pub headers_file: Option<PathBuf>,
    /// Certificate authorities of the collector, PEM; the system's if absent.
    pub ca_file: Option<PathBuf>,
    /// Share of logins that are traced, from 0 to 1.
    pub sample_ratio: f64,
}

pub(super) fn traces(section: &SectionReader<'_, '_>) -> Option<TraceSettings> {
    // http is for a collector on this machine: traces hold no secrets, and headers_file may hold one.
    let endpoint = section.parsed("endpoint", |text| web_address(text, true));
    let headers_file = section.path("headers_file");
    let ca_file = section.path("ca_file");
    let sample_ratio = sample_ratio(section);
    let given =
        ["endpoint", "headers_file", "ca_file", "sample_ratio"].into_iter().find(|key| section.has(key));
    if let Some(key) = given {
        if !cfg!(feature = "otlp") {
            let text =
                "this pgpassport was built without traces; build it with --features otlp, or remove [traces]";
            section.wrong(key, text);
        } else if !section.has("endpoint") {
            section.wrong(key, "this needs traces.endpoint, which is not set");
        }
    }
    section.finish();
    Some(TraceSettings { endpoint: endpoint?, headers_file, ca_file, sample_ratio })
}

/// A number from 0 to 1; 1 by default.
fn sample_ratio(section: &SectionReader<'_, '_>) -> f64 {
    section.record(
        "sample_ratio",
        || serde_json::json!({ "type": "number", "minimum": 0, "maximum": 1, "default": 1 }),
    );
    let number = |value: &DeValue<'_>| match value {
        DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
        DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
        _ => None,
    };
    let Some(found) = section.value("sample_ratio").map(Spanned::get_ref) else { return 1.0 };
    let ratio = number(found).filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.unwrap_or_else(|| {
        section.wrong("sample_ratio", "expected a number from 0 to 1, such as 0.1");
        1.0
    })
}

#[cfg(all(test, feature = "otlp"))]
mod tests {
    use crate::config::tests::{REFERENCE, read};

    /// The settings with these keys.
    fn traces(keys: &str) -> Result<Option<super::TraceSettings>, String> {
        let text = REFERENCE.replacen("\n[traces]\n", &format!("\n[traces]\n{keys}\n"), 1);
        read(&text).map(|config| config.traces).map_err(|problems| problems.to_string())
    }

    #[test]
    fn traces_are_off_unless_an_endpoint_is_named() {
        assert_eq!(traces("").unwrap(), None);
        let endpoint = "endpoint = \"https://collector.acme.com:4318/v1/traces\"";
        let settings = traces(endpoint).unwrap().unwrap();
        assert_eq!((settings.sample_ratio, settings.ca_file), (1.0, None));
        for (ratio, read) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1e-3", 0.001)] {
            let settings = traces(&format!("{endpoint}\nsample_ratio = {ratio}")).unwrap().unwrap();
            assert!((settings.sample_ratio - read).abs() < f64::EPSILON, "{ratio}");
        }
        traces("endpoint = \"http://127.0.0.1:4318/v1/traces\"").unwrap();
    }

    #[test]
    fn traces_that_cannot_work_are_problems() {
        let endpoint = "endpoint = \"https://collector.acme.com/v1/traces\"\n";
        for (keys, told) in [
            ("endpoint = \"http://collector.acme.com/v1/traces\"".to_owned(), "begins with https://"),
            ("endpoint = \"https://a:b@collector.acme.com\"".to_owned(), "a URL with a user or password"),
            ("sample_ratio = 0.5".to_owned(), "this needs traces.endpoint"),
            (format!("{endpoint}sample_ratio = 1.1"), "from 0 to 1"),
            (format!("{endpoint}sample_ratio = -0.1"), "from 0 to 1"),
            (format!("{endpoint}sample_ratio = nan"), "from 0 to 1"),
            (format!("{endpoint}sample_ratio = \"1\""), "from 0 to 1"),
        ] {
            let report = traces(&keys).unwrap_err();
            assert!(report.contains(told), "{keys}: {report}");
        }
    }
}

#[cfg(all(test, not(feature = "otlp")))]
mod tests {
    use crate::config::tests::{REFERENCE, read};

    #[test]
    fn without_the_feature_the_keys_are_a_problem_that_names_it() {
        let keys = "endpoint = \"https://collector.acme.com/v1/traces\"";
        let text = REFERENCE.replacen("\n[traces]\n", &format!("\n[traces]\n{keys}\n"), 1);
        let report = read(&text).unwrap_err().to_string();
        assert!(report.contains("traces.endpoint: this pgpassport was built without traces"), "{report}");
        assert!(report.contains("--features otlp"), "{report}");
    }
}
