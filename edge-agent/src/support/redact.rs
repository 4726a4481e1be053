//! Takes secrets out of text: those that are known at this site, wherever they stand, and what looks like one.

use regex_lite::Regex;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Shorter texts are no secrets worth the name, and replacing them would tear other words apart.
const SECRET_CHARS_MIN: usize = 6;

/// What looks like a secret. Where a pattern has a group, that is what goes; else the whole match does.
const PATTERNS: &[&str] = &[
    // A private key in PEM, as lines or with its line breaks escaped; one that is cut off goes to the end.
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
    r"AGE-SECRET-KEY-1[0-9A-Za-z]+",
    // Airlift's enrolment tokens, and JSON web tokens such as those of service accounts.
    r"airlift1\.[0-9A-Za-z_-]+",
    r"eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)?",
    r#"(?i:bearer|basic)\s+([0-9A-Za-z._~+/=-]{8,})"#,
    // user:password@host
    r"://[^\s/:@]+:([^\s/@\[]+)@",
    // name=value and "name": "value", by the name. In JSON inside of JSON the quotes are escaped.
    r#"(?i:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key|key[_-]data|credential)[0-9A-Za-z_-]*\\?["']?\s*[:=]\s*\\?["']?([^\s"'\\,;&}\[\]]{4,})"#,
];

/// Knows what must not be shown.
#[derive(Debug)]
pub struct Redactor {
    known: Vec<String>,
    patterns: Vec<Regex>,
}

impl Default for Redactor {
    fn default() -> Self {
        let pattern = |text: &&str| Regex::new(text).expect("the patterns of this file are valid");
        Self { known: Vec::new(), patterns: PATTERNS.iter().map(pattern).collect() }
    }
}

impl Redactor {
    /// Learns a secret: each of its lines goes wherever it stands, as it is and as JSON writes it.
    pub fn learn(&mut self, secret: &str) {
        for line in secret.lines().map(str::trim).filter(|line| line.chars().count() >= SECRET_CHARS_MIN) {
            let quoted = serde_json::Value::from(line).to_string();
            let escaped = quoted[1..quoted.len() - 1].to_owned();
            for form in [line.to_owned(), escaped] {
                if !self.known.contains(&form) {
                    self.known.push(form);
                }
            }
        }
        // A secret that holds another goes first, so that nothing of it is left.
        self.known.sort_by_key(|known| std::cmp::Reverse(known.len()));
    }

    /// The text without secrets, and how many were taken out.
    #[must_use]
    pub fn clean(&self, text: &str) -> (String, usize) {
        let mut count = 0;
        let mut text = text.to_owned();
        for known in &self.known {
            let found = text.matches(known.as_str()).count();
            if found > 0 {
                count += found;
                text = text.replace(known.as_str(), REDACTED);
            }
        }
        for pattern in &self.patterns {
            let mut cleaned = String::with_capacity(text.len());
            let mut upto = 0;
            for found in pattern.captures_iter(&text) {
                let Some(secret) = found.get(1).or_else(|| found.get(0)) else { continue };
                cleaned.push_str(&text[upto..secret.start()]);
                cleaned.push_str(REDACTED);
                upto = secret.end();
                count += 1;
            }
            cleaned.push_str(&text[upto..]);
            text = cleaned;
        }
        (text, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        Redactor::default().clean(text).0
    }

    #[test]
    fn what_looks_like_a_secret_goes() {
        for (text, left) in [
            ("a -----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY----- b", "a [redacted] b"),
            ("x -----BEGIN EC PRIVATE KEY-----\\nMIGH", "x [redacted]"),
            ("key AGE-SECRET-KEY-1QQQQ end", "key [redacted] end"),
            ("token airlift1.eyJmbGVldCI6 used", "token [redacted] used"),
            ("got eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJr.c2ln here", "got [redacted] here"),
            ("Authorization: Bearer abcdef123456", "Authorization: Bearer [redacted]"),
            ("postgres://app:hunter22@db/shop", "postgres://app:[redacted]@db/shop"),
            ("DB_PASSWORD=hunter22 next", "DB_PASSWORD=[redacted] next"),
            (r#"{"password": "hunter22", "a": 1}"#, r#"{"password": "[redacted]", "a": 1}"#),
            (r#"{\"api_key\":\"hunter22\"}"#, r#"{\"api_key\":\"[redacted]\"}"#),
            ("client-key-data: LS0tLS1CRUdJTg==", "client-key-data: [redacted]"),
        ] {
            assert_eq!(clean(text), left);
        }
    }

    #[test]
    fn what_is_none_stays() {
        for text in [
            "release applied app=shop seq=13",
            r#"{"table": "secret", "rows": 3}"#,
            "Deployment shop/web: 0 of 2 replicas available",
            "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        ] {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn what_is_known_goes_in_every_form_and_the_longest_first() {
        let mut redactor = Redactor::default();
        redactor.learn("hunter");
        redactor.learn("hunter \"22\"");
        redactor.learn("no"); // too short to be told from words
        let (text, count) = redactor.clean(r#"say hunter "22", {"a": "hunter \"22\""}, hunter2, no"#);
        assert_eq!(text, r#"say [redacted], {"a": "[redacted]"}, [redacted]2, no"#);
        assert_eq!(count, 3);
    }
}
