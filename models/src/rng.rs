//! Numbers without state: every draw is a function of the seed and of what it is for, so that a run that goes on from a
//! checkpoint draws what the uninterrupted run would have drawn.

/// A stream of pseudo-random numbers (SplitMix64; Steele, Lea, Flood 2014).
pub(crate) struct Stream(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One number from several; the order matters.
pub(crate) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(GOLDEN, |state, &part| finish(state.wrapping_mul(GOLDEN).wrapping_add(part).wrapping_add(1)))
}

impl Stream {
    /// The stream of `seed` for the thing called `name`.
    pub(crate) fn named(seed: u64, name: &str) -> Self {
        let name = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(mix(&[seed, name]))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        finish(self.0)
    }

    /// `count` numbers uniform on [-bound, bound).
    pub(crate) fn uniform(&mut self, count: usize, bound: f32) -> Vec<f32> {
        let unit = 1.0 / (1u32 << 24) as f32;
        (0..count).map(|_| ((self.next() >> 40) as f32 * unit * 2.0 - 1.0) * bound).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_fixed_for_all_time() {
        assert_eq!(mix(&[1, 2, 3]), 0x1e1919b4b23e69f2);
        let mut stream = Stream::named(7, "layer");
        assert_eq!([stream.next(), stream.next()], [0xaa3ef98e0c8c2f05, 0xcca74e8a9698f0ca]);
        assert_ne!(mix(&[1, 2]), mix(&[2, 1]));
        assert_ne!(mix(&[0]), mix(&[0, 0]));
    }

    #[test]
    fn uniform_fills_its_range_evenly() {
        let draws = Stream::named(7, "a").uniform(40_000, 0.5);
        let mean = draws.iter().map(|&x| f64::from(x)).sum::<f64>() / 4e4;
        let variance = draws.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 4e4;
        assert!(mean.abs() < 0.005 && (variance - 1.0 / 12.0).abs() < 0.002, "mean {mean}, variance {variance}");
        assert!(draws.iter().all(|x| (-0.5..0.5).contains(x)));
        assert_ne!(draws[..8], Stream::named(7, "b").uniform(8, 0.5)[..]);
    }
}
