//! Where the values of a step stand in the file.

use super::Span;

/// Places by dotted path (`phases.0.name`); that of a name is under the path with `=` behind.
#[derive(Clone, Debug, Default)]
pub struct Places(Vec<(String, Span)>);

impl Places {
    /// Notes where a value stands. They are noted for every value and asked for when something is wrong, so this only appends.
    pub(super) fn note(&mut self, path: impl Into<String>, span: Span) {
        self.0.push((path.into(), span));
    }

    /// Where the value of a path stands, if the file mentions it.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Span> {
        self.0.iter().find(|(noted, _)| noted == path).map(|(_, span)| span)
    }

    /// Where a value stands, or the nearest around it that the file mentions.
    #[must_use]
    pub fn around(&self, path: &str) -> Option<&Span> {
        let mut path = path;
        loop {
            if let Some(span) = self.get(path) {
                return Some(span);
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    /// The places of these paths alone.
    pub(super) fn only(&self, paths: &[&str]) -> Self {
        Self(self.0.iter().filter(|(path, _)| paths.contains(&path.as_str())).cloned().collect())
    }
}
