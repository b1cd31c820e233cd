//! Finds what looks like a token, password or private key in a text that is about to be published.

use std::sync::LazyLock;

use regex::RegexSet;

/// What is looked for, with a pattern of its shape.
const SHAPES: &[(&str, &str)] = &[
    ("a Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}"),
    ("an API key", r"\bsk-[A-Za-z0-9_-]{20,}"),
    ("a GitHub token", r"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40,})"),
    ("an AWS access key", r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    ("a JSON web token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+"),
    ("a password in an address", r"[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@"),
    ("a signed address", r"[?&](X-Amz-Signature|Signature|sig|access_token)=[A-Za-z0-9%/+_-]{16,}"),
];

static PATTERNS: LazyLock<RegexSet> =
    LazyLock::new(|| RegexSet::new(SHAPES.iter().map(|(_, pattern)| pattern)).expect("a test compiles these patterns"));

/// What kind of secret the text seems to hold, if any.
pub(super) fn find(text: &str) -> Option<&'static str> {
    PATTERNS.matches(text).iter().next().map(|index| SHAPES[index].0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_by_their_shape() {
        // Joined here, so that this file does not look like one that holds secrets.
        let join = |parts: [&str; 2]| parts.concat();
        let cases = [
            (join(["hf_", &"a1B2".repeat(9)]), "a Hugging Face token"),
            (join(["sk-", &"x".repeat(30)]), "an API key"),
            (join(["ghp_", &"A".repeat(36)]), "a GitHub token"),
            (join(["AKIA", &"Q".repeat(16)]), "an AWS access key"),
            (join(["-----BEGIN RSA ", "PRIVATE KEY-----"]), "a private key"),
            (join(["https://user:", "word@host/x"]), "a password in an address"),
            (join(["https://host/x?X-Amz-Signature=", &"0f".repeat(20)]), "a signed address"),
        ];
        for (text, kind) in cases {
            assert_eq!(find(&format!("before {text} after")), Some(kind), "{text}");
        }
    }

    #[test]
    fn names_and_digests_are_no_secrets() {
        let text = format!("hf://org/name@{} https://host/a?b=c sk-learn {}", "0a".repeat(20), "f".repeat(64));
        assert_eq!(find(&text), None);
    }
}
