//! Names of things: [`Digest`] names content, [`Key`] names work. The two cannot be swapped.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text given is not 64 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a digest (64 hexadecimal digits)")]
pub struct ParseDigestError(String);

macro_rules! hash_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The name of these bytes: their BLAKE3.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// The raw 32 bytes.
            #[must_use]
            pub const fn bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// From the raw 32 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The first twelve hexadecimal digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                self.to_string()[..12].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                decode_hex(text.as_bytes()).map(Self).ok_or_else(|| ParseDigestError(text.to_owned()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    deserializer.deserialize_str(Text).map(Self)
                } else {
                    <[u8; 32]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

hash_name! {
    /// The BLAKE3 of some content: an object, a manifest, an artifact.
    Digest
}

hash_name! {
    /// The BLAKE3 of a recipe: a step, a chunk or a row of work to do.
    Key
}

fn decode_hex(text: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let read = (text.len() == 64).then(|| HEXLOWER.decode_mut(text, &mut bytes))?;
    (read == Ok(bytes.len())).then_some(bytes)
}

/// Reads hexadecimal digits as they stand, without a copy of the text.
struct Text;

impl Visitor<'_> for Text {
    type Value = [u8; 32];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hexadecimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<[u8; 32], E> {
        decode_hex(text.as_bytes()).ok_or_else(|| E::custom(ParseDigestError(text.to_owned())))
    }
}

/// Hashes a sequence of fields, each preceded by its length, so that no two sequences collide by concatenation.
#[derive(Clone, Default)]
pub struct Fields(blake3::Hasher);

impl Fields {
    /// Starts a sequence; `domain` separates unrelated uses.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        let mut fields = Self(blake3::Hasher::new());
        fields.push(domain.as_bytes());
        fields
    }

    /// Appends one field.
    pub fn push(&mut self, field: &[u8]) -> &mut Self {
        self.0.update(&(field.len() as u64).to_le_bytes());
        self.0.update(field);
        self
    }

    /// The digest of the fields so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }

    /// The key of the fields so far.
    #[must_use]
    pub fn key(&self) -> Key {
        Key(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("ABC".parse::<Digest>().is_err());
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
        assert!("0".repeat(63).parse::<Digest>().is_err());
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        let error = serde_json::from_str::<Digest>("\"abc\"").unwrap_err().to_string();
        assert!(error.starts_with("`abc` is not a digest"), "{error}");
    }

    #[test]
    fn fields_do_not_collide_by_concatenation() {
        let one = Fields::new("t").push(b"ab").push(b"c").key();
        let two = Fields::new("t").push(b"a").push(b"bc").key();
        assert_ne!(one, two);
    }
}
