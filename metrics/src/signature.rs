//! Signatures: what a reader must know to compute the same number again.

use std::fmt;

use serde::{Serialize, Serializer};

/// The signature of one value, such as
/// `cider_d|variant:coco-caption|tok:ptb-3.4.1-coco|refs:5|df:corpus-200|missing:error|version:0.1.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    name: &'static str,
    fields: Vec<(&'static str, String)>,
}

impl Signature {
    pub(crate) fn new(name: &'static str, variant: &str) -> Self {
        Self { name, fields: vec![("variant", variant.to_owned())] }
    }

    /// Adds a field.
    pub(crate) fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push((key, value.to_string()));
        self
    }

    /// The value of a field, such as `tok`.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        for (key, value) in &self.fields {
            write!(f, "|{key}:{value}")?;
        }
        Ok(())
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_in_the_order_given() {
        let signature = Signature::new("bleu_4", "coco-caption").with("refs", "2-5").with("version", 1);
        assert_eq!(signature.to_string(), "bleu_4|variant:coco-caption|refs:2-5|version:1");
        assert_eq!(signature.field("refs"), Some("2-5"));
    }
}
