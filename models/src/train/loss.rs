//! Cross-entropy over a frozen output head, a few rows at a time, so that the scores of a whole batch are never held.

use tch::{Kind, Tensor};

use crate::error::Result;

/// Scores held at once, in numbers.
const SCORES: i64 = 1 << 25;

/// Rows per chunk, a function of the vocabulary alone, so that rounding does not depend on the batch.
fn chunk_rows(vocabulary: i64) -> i64 {
    (SCORES / vocabulary).clamp(64, 8192)
}

/// Σ −log p(target) · `weight` for `hidden` `[n, width]`, `targets` `[n]` and `head` `[vocabulary, width]`, as a 64-bit
/// number on the device; with `gradient`, also its derivative by `hidden`, written out and not recorded.
pub(super) fn cross_entropy(
    hidden: &Tensor,
    targets: &Tensor,
    head: &Tensor,
    weight: f64,
    gradient: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let _guard = tch::no_grad_guard();
    let n = hidden.size2()?.0;
    let rows = chunk_rows(head.size2()?.0);
    let mut total = Tensor::f_zeros([], (Kind::Double, hidden.device()))?;
    let mut gradients = vec![];
    let mut start = 0;
    while start < n {
        let count = rows.min(n - start);
        let x = hidden.f_narrow(0, start, count)?;
        let y = targets.f_narrow(0, start, count)?.f_view([count, 1])?;
        let scores = x.f_linear(head, None::<&Tensor>)?;
        let mut log_p = scores.f_log_softmax(1, Kind::Float)?;
        total = total.f_sub(&log_p.f_gather(1, &y, false)?.f_sum(Kind::Double)?)?;
        if gradient {
            // softmax − onehot, in place of the logarithms.
            let mut p = log_p.f_exp_()?;
            let minus = Tensor::f_full([count, 1], -1.0, (Kind::Float, hidden.device()))?;
            let p = p.f_scatter_add_(1, &y, &minus)?.f_mul_scalar_(weight)?;
            gradients.push(p.f_to_kind(hidden.f_kind()?)?.f_matmul(head)?);
        }
        start += count;
    }
    let gradient = match gradients.len() {
        0 => None,
        1 => gradients.pop(),
        _ => Some(Tensor::f_cat(&gradients, 0)?),
    };
    Ok((total.f_mul_scalar(weight)?, gradient))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against libtorch's own loss and autograd, over several chunks.
    #[test]
    fn loss_and_gradient_equal_those_of_autograd() {
        let float = (Kind::Float, tch::Device::Cpu);
        let (vocabulary, n) = (90_000, 400);
        tch::manual_seed(3);
        let head = Tensor::f_randn([vocabulary, 2], float).unwrap();
        let hidden = Tensor::f_randn([n, 2], float).unwrap();
        let targets = Tensor::f_randint(vocabulary, [n], (Kind::Int64, tch::Device::Cpu)).unwrap();
        assert!(chunk_rows(vocabulary) < n);
        let leaf = hidden.f_detach().unwrap().f_set_requires_grad(true).unwrap();
        let scores = leaf.f_linear(&head, None::<&Tensor>).unwrap();
        let sum = scores.f_cross_entropy_loss(&targets, None::<&Tensor>, tch::Reduction::Sum, -100, 0.0).unwrap();
        sum.f_mul_scalar(0.5).unwrap().f_backward().unwrap();
        let (loss, gradient) = cross_entropy(&hidden, &targets, &head, 0.5, true).unwrap();
        let expected = f64::try_from(&sum).unwrap() * 0.5;
        assert!((f64::try_from(&loss).unwrap() - expected).abs() < 1e-4 * expected);
        let worst = gradient.unwrap().f_sub(&leaf.f_grad().unwrap()).unwrap().f_abs().unwrap().f_max().unwrap();
        assert!(f64::try_from(&worst).unwrap() < 1e-5);
    }
}
