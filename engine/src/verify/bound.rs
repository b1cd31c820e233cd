//! How many could differ, given how many of a sample did.

/// The share of all that differ lies below this with a confidence of 95 %, if `differ` of `checked` drawn at random do: the upper
/// bound of Clopper and Pearson (1934), one-sided. With none that differs it is 1 − 0.05^(1/n), about 3/n.
#[must_use]
pub fn upper_bound(differ: u64, checked: u64) -> f64 {
    const MISSED: f64 = 0.05;
    if checked == 0 || differ >= checked {
        return 1.0;
    }
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    // Each step halves the interval: far below what is ever shown.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(differ, checked, middle) > MISSED {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The probability that at most `k` of `n` differ, if each does with probability `p`.
#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2⁵³")]
fn at_most(k: u64, n: u64, p: f64) -> f64 {
    let mut term = n as f64 * (-p).ln_1p();
    let mut sum = term.exp();
    for i in 0..k {
        term += ((n - i) as f64 / (i + 1) as f64).ln() + p.ln() - (-p).ln_1p();
        sum += term.exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_clopper_and_pearson() {
        // From R: binom.test(k, n, alternative = "less")$conf.int[2].
        for (k, n, bound) in [(0, 100, 0.029_513), (1, 100, 0.046_560), (5, 100, 0.102_254), (0, 1, 0.95), (3, 3, 1.0)]
        {
            assert!((upper_bound(k, n) - bound).abs() < 1e-4, "{k} of {n}: {}", upper_bound(k, n));
        }
        assert!((upper_bound(0, 10_000) - 3.0 / 10_000.0).abs() < 1e-6);
        assert!((upper_bound(0, 0) - 1.0).abs() < f64::EPSILON);
    }
}
