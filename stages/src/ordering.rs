//! Pseudo-random orders and draws that survive edits: each row draws its own number, from a seed and its id.
//!
//! Where a generator shuffles, one row more changes every place. Here a row's number depends on nothing but the row.

/// A number drawn uniformly from all of `u128`; rows are ordered by it.
pub type Rank = u128;

/// The number that `fields` draw for this use and seed. Uses with different names draw independently.
#[must_use]
pub fn rank(purpose: &str, seed: u64, fields: &[&[u8]]) -> Rank {
    let mut hasher = blake3::Hasher::new_derive_key(purpose);
    hasher.update(&seed.to_le_bytes());
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    let mut rank = [0; 16];
    hasher.finalize_xof().fill(&mut rank);
    Rank::from_le_bytes(rank)
}

/// The number in `[0, 1)` that a rank stands for.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "the upper 53 bits fit exactly")]
pub fn unit(rank: Rank) -> f64 {
    const BITS: u32 = f64::MANTISSA_DIGITS;
    (rank >> (Rank::BITS - BITS)) as f64 / (1_u64 << BITS) as f64
}

/// So many of `count` make up a `share`, to the nearest whole.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub fn nearest_count(share: f64, count: usize) -> usize {
    ((share * count as f64).round() as usize).min(count)
}

/// How many borders lie before `rank`, given the first rank beyond each; `None` where nothing lies beyond.
#[must_use]
pub fn borders_before(firsts: &[Option<Rank>], rank: Rank) -> u32 {
    firsts
        .iter()
        .zip(1..)
        .take_while(|(first, _)| first.is_some_and(|first| rank >= first))
        .last()
        .map_or(0, |(_, n)| n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_counts() {
        let base = rank("test", 1, &[b"ab", b"c"]);
        assert_eq!(base, rank("test", 1, &[b"ab", b"c"]));
        assert_ne!(base, rank("other", 1, &[b"ab", b"c"]));
        assert_ne!(base, rank("test", 2, &[b"ab", b"c"]));
        assert_ne!(base, rank("test", 1, &[b"a", b"bc"]));
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let numbers: Vec<f64> = (0..10_000_u32).map(|i| unit(rank("test", 7, &[&i.to_le_bytes()]))).collect();
        assert!(numbers.iter().all(|n| (0.0..1.0).contains(n)));
        let mean = numbers.iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.015, "{mean}");
        assert_eq!(unit(Rank::MAX), 1.0 - f64::EPSILON / 2.0);
        assert_eq!(unit(0), 0.0);
    }
}
