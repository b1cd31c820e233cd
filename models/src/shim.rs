//! The C++ shim (`csrc/shim.cpp`) as safe functions.
//!
//! Safety, for the whole file: pointers handed to the shim come from live `Tensor`s or slices borrowed for the call, and
//! are not kept past it, except by [`borrowed`], whose owner is handed over with them. The shim catches every C++
//! exception.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use crate::error::{Error, Result};

type Handle = *mut C_tensor;

unsafe extern "C" {
    fn pipe_shim_error() -> *const c_char;
    fn pipe_backward(outputs: *const Handle, grads: *const Handle, count: i64) -> c_int;
    fn pipe_addmm_(base: Handle, left: Handle, right: Handle, alpha: f64) -> c_int;
    fn pipe_lora_linear(inputs: *const Handle, scale: f64, out: *mut Handle) -> c_int;
    fn pipe_rms_norm(x: Handle, weight: Handle, eps: f64, out: *mut Handle) -> c_int;
    fn pipe_clear_grads(params: *const Handle, count: i64) -> c_int;
    fn pipe_clip_grads(
        params: *const Handle,
        count: i64,
        max_norm: f64,
        norms: *mut Handle,
        total: *mut Handle,
    ) -> c_int;
    fn pipe_fused_adamw(
        params: *const Handle,
        exp_avgs: *const Handle,
        exp_avg_sqs: *const Handle,
        steps: *const Handle,
        count: i64,
        options: *const AdamWOptions,
    ) -> c_int;
    fn pipe_borrow(
        data: *mut c_void,
        shape: *const i64,
        dims: i64,
        kind: c_int,
        owner: *mut c_void,
        release: extern "C" fn(*mut c_void),
        out: *mut Handle,
    ) -> c_int;
    fn pipe_seed(seed: u64) -> c_int;
    fn pipe_set_threads(threads: c_int) -> c_int;
    fn pipe_threads() -> c_int;
    fn pipe_set_flags(deterministic: c_int, tf32: c_int) -> c_int;
    fn pipe_cuda_memory(device: c_int, out: *mut i64) -> c_int;
    fn pipe_cuda_reset_peak(device: c_int) -> c_int;
    fn pipe_cuda_empty_cache() -> c_int;
    fn pipe_library_path() -> *const c_char;
}

/// The numbers of one AdamW step, in the order of the shim's `PipeAdamW`.
#[repr(C)]
pub(crate) struct AdamWOptions {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    pub eps: f64,
}

fn checked(code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    let text = unsafe { CStr::from_ptr(pipe_shim_error()) };
    Err(Error::torch(&text.to_string_lossy()))
}

fn handle(tensor: &Tensor) -> Handle {
    tensor.as_ptr().cast_mut()
}

fn handles<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<Handle> {
    tensors.into_iter().map(handle).collect()
}

/// Accumulates the gradient of `Σ output · grad` into the `.grad` of the leaves.
pub(crate) fn backward(output: &Tensor, grad: &Tensor) -> Result<()> {
    checked(unsafe { pipe_backward(&handle(output), &handle(grad), 1) })
}

/// `base += alpha · left @ right` in place, recorded by autograd; all are matrices.
pub(crate) fn addmm_(base: &mut Tensor, left: &Tensor, right: &Tensor, alpha: f64) -> Result<()> {
    checked(unsafe { pipe_addmm_(handle(base), handle(left), handle(right), alpha) })
}

/// The operands of [`lora_linear`].
pub(crate) struct LoraOperands<'a> {
    /// `[n, in]`.
    pub x: &'a Tensor,
    /// x, or x with elements dropped.
    pub z: &'a Tensor,
    /// `[out, in]`, frozen.
    pub weight: &'a Tensor,
    /// `[out]`, frozen.
    pub bias: Option<&'a Tensor>,
    /// `[r, in]`.
    pub a: &'a Tensor,
    /// `[out, r]`.
    pub b: &'a Tensor,
    pub scale: f64,
}

/// x Wᵀ + bias + scale · z Aᵀ Bᵀ, recorded by autograd as one operation; all of one type.
pub(crate) fn lora_linear(operands: &LoraOperands<'_>) -> Result<Tensor> {
    let LoraOperands { x, z, weight, bias, a, b, scale } = *operands;
    let inputs =
        [handle(x), handle(z), handle(weight), bias.map_or(std::ptr::null_mut(), handle), handle(a), handle(b)];
    let mut out = std::ptr::null_mut();
    checked(unsafe { pipe_lora_linear(inputs.as_ptr(), scale, &raw mut out) })?;
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// x / √(mean x² + ε) over the last dimension, in 32 bits, rounded to the type of x, times a frozen weight.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    checked(unsafe { pipe_rms_norm(handle(x), handle(weight), eps, &raw mut out) })?;
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// Forgets the gradients of `params`.
pub(crate) fn clear_grads(params: &[Tensor]) -> Result<()> {
    let params = handles(params);
    checked(unsafe { pipe_clear_grads(params.as_ptr(), params.len() as i64) })
}

/// Clips the gradients of `params` to `max_norm` in total (0: not at all) as `torch.nn.utils.clip_grad_norm_` does.
/// Gives the norm of each and of all, before clipping.
pub(crate) fn clip_grads(params: &[Tensor], max_norm: f64) -> Result<(Tensor, Tensor)> {
    let params = handles(params);
    let (mut norms, mut total) = (std::ptr::null_mut(), std::ptr::null_mut());
    checked(unsafe {
        pipe_clip_grads(params.as_ptr(), params.len() as i64, max_norm, &raw mut norms, &raw mut total)
    })?;
    Ok(unsafe { (Tensor::from_ptr(norms), Tensor::from_ptr(total)) })
}

/// One step of `torch.optim.AdamW(fused=True)`. `state` holds the first moments, the second moments and the counts of
/// steps (one number each, 32-bit floats), in the order of `params`.
pub(crate) fn fused_adamw(params: &[Tensor], state: [&[Tensor]; 3], options: &AdamWOptions) -> Result<()> {
    let params = handles(params);
    let [first, second, steps] = state.map(handles);
    assert!([&first, &second, &steps].iter().all(|list| list.len() == params.len()), "one state per parameter");
    let count = params.len() as i64;
    checked(unsafe {
        pipe_fused_adamw(params.as_ptr(), first.as_ptr(), second.as_ptr(), steps.as_ptr(), count, options)
    })
}

/// A read-only CPU tensor over `bytes[start..]`, which stay alive as long as any tensor over them.
///
/// The caller never writes to it. Fails where the bytes are too few or not aligned for `kind`.
pub(crate) fn borrowed<B>(bytes: &Arc<B>, start: usize, shape: &[i64], kind: Kind) -> Result<Tensor>
where
    B: AsRef<[u8]> + Send + Sync + 'static,
{
    extern "C" fn release<B>(owner: *mut c_void) {
        drop(unsafe { Arc::from_raw(owner.cast_const().cast::<B>()) });
    }
    let scalar_type = match kind {
        Kind::Half => 5,
        Kind::Float => 6,
        Kind::BFloat16 => 15,
        other => return Err(Error::input(format!("tensors of {other:?} cannot be borrowed"))),
    };
    let slice = bytes.as_ref().as_ref();
    let size = kind.elt_size_in_bytes();
    let need = shape.iter().try_fold(size, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let data = need
        .and_then(|need| slice.get(start..start.checked_add(need)?))
        .ok_or_else(|| Error::input("a tensor reaches past the end of its bytes"))?;
    if data.as_ptr().align_offset(size) != 0 {
        return Err(Error::input("a tensor's bytes are not aligned"));
    }
    let owner = Arc::into_raw(Arc::clone(bytes)).cast_mut().cast::<c_void>();
    let mut out = std::ptr::null_mut();
    let code = unsafe {
        let data = data.as_ptr().cast_mut().cast();
        pipe_borrow(data, shape.as_ptr(), shape.len() as i64, scalar_type, owner, release::<B>, &raw mut out)
    };
    // On failure the shim may or may not have taken the owner over: leaking one count of a map is harmless.
    checked(code)?;
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// Seeds every generator of libtorch.
pub(crate) fn seed(seed: u64) -> Result<()> {
    checked(unsafe { pipe_seed(seed) })
}

/// Sets how many threads one operation may use; the count changes rounding.
pub(crate) fn set_threads(threads: i32) -> Result<()> {
    checked(unsafe { pipe_set_threads(threads) })
}

/// How many threads one operation may use.
pub(crate) fn threads() -> i32 {
    unsafe { pipe_threads() }
}

/// Sets what decides rounding on CUDA: deterministic algorithms only, and whether TF32 may be used.
pub(crate) fn set_flags(deterministic: bool, tf32: bool) -> Result<()> {
    checked(unsafe { pipe_set_flags(deterministic.into(), tf32.into()) })
}

/// Bytes allocated now, their peak, the peak of bytes reserved, and the count of out-of-memory events.
pub(crate) fn cuda_memory(device: i32) -> Result<[i64; 4]> {
    let mut out = [0; 4];
    checked(unsafe { pipe_cuda_memory(device, out.as_mut_ptr()) })?;
    Ok(out)
}

/// Starts the peaks of [`cuda_memory`] anew.
pub(crate) fn cuda_reset_peak(device: i32) -> Result<()> {
    checked(unsafe { pipe_cuda_reset_peak(device) })
}

/// Gives memory that the CUDA allocator holds but does not use back to the driver.
pub(crate) fn cuda_empty_cache() -> Result<()> {
    checked(unsafe { pipe_cuda_empty_cache() })
}

/// The path `libtorch_cpu` was loaded from.
pub(crate) fn library_path() -> Option<PathBuf> {
    let path = unsafe { pipe_library_path() };
    if path.is_null() {
        return None;
    }
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(shape: &[i64]) -> Tensor {
        Tensor::f_randn(shape, (Kind::Float, tch::Device::Cpu)).unwrap()
    }

    fn leaf(tensor: &Tensor) -> Tensor {
        tensor.f_mul_scalar(1.0).unwrap().f_set_requires_grad(true).unwrap()
    }

    fn assert_near(found: &Tensor, expected: &Tensor) {
        assert!(found.f_allclose(expected, 1e-5, 1e-5, false).unwrap(), "{found:?} {expected:?}");
    }

    /// The value and the gradients by each leaf, for the same random gradient of the output.
    fn run(output: &Tensor, leaves: &[&Tensor], grad: &Tensor) -> Vec<Tensor> {
        backward(output, grad).unwrap();
        let grads = leaves.iter().map(|leaf| leaf.f_grad().unwrap());
        std::iter::once(output.f_detach().unwrap()).chain(grads).collect()
    }

    #[test]
    fn the_adapted_layer_is_the_sum_of_its_parts_and_so_are_its_gradients() {
        tch::manual_seed(1);
        let (weight, bias, grad) = (random(&[5, 4]), random(&[5]), random(&[7, 5]));
        let (x0, a0, b0) = (random(&[7, 4]), random(&[2, 4]), random(&[5, 2]));
        for (dropped, biased) in [(false, true), (true, true), (true, false)] {
            let bias = biased.then_some(&bias);
            let mask = random(&[7, 4]).f_gt(0.0).unwrap().f_to_kind(Kind::Float).unwrap();
            let operands = || {
                let x = leaf(&x0);
                let z = if dropped { x.f_mul(&mask).unwrap() } else { x.shallow_clone() };
                (x, z, leaf(&a0), leaf(&b0))
            };
            let (x, z, a, b) = operands();
            let fused = LoraOperands { x: &x, z: &z, weight: &weight, bias, a: &a, b: &b, scale: 1.5 };
            let found = run(&lora_linear(&fused).unwrap(), &[&x, &a, &b], &grad);
            let (x, z, a, b) = operands();
            let low = z.f_linear(&a, None::<&Tensor>).unwrap().f_linear(&b, None::<&Tensor>).unwrap();
            let parts = x.f_linear(&weight, bias).unwrap().f_add(&low.f_mul_scalar(1.5).unwrap()).unwrap();
            let expected = run(&parts, &[&x, &a, &b], &grad);
            found.iter().zip(&expected).for_each(|(found, expected)| assert_near(found, expected));
        }
    }

    #[test]
    fn the_norm_and_its_gradient_equal_those_of_its_parts() {
        tch::manual_seed(2);
        let (x0, weight, grad) = (random(&[6, 8]), random(&[8]), random(&[6, 8]));
        let x = leaf(&x0);
        let found = run(&rms_norm(&x, &weight, 1e-3).unwrap(), &[&x], &grad);
        let x = leaf(&x0);
        let mean = x.f_square().unwrap().f_mean_dim([-1i64].as_slice(), true, Kind::Float).unwrap();
        let inverse = mean.f_add_scalar(1e-3).unwrap().f_rsqrt().unwrap();
        let expected = run(&x.f_mul(&inverse).unwrap().f_mul(&weight).unwrap(), &[&x], &grad);
        found.iter().zip(&expected).for_each(|(found, expected)| assert_near(found, expected));
    }

    #[test]
    fn borrowed_bytes_are_checked() {
        let bytes = Arc::new(vec![0u8; 64]);
        let start = bytes.as_ptr().align_offset(4);
        assert!(borrowed(&bytes, start, &[4], Kind::Float).is_ok());
        assert!(borrowed(&bytes, start + 1, &[4], Kind::Float).is_err(), "not aligned");
        assert!(borrowed(&bytes, start, &[17], Kind::Float).is_err(), "too long");
        assert!(borrowed(&bytes, usize::MAX, &[1], Kind::Float).is_err());
        assert!(borrowed(&bytes, start, &[-1], Kind::Float).is_err());
        assert!(borrowed(&bytes, start, &[i64::MAX, 4], Kind::Float).is_err());
        assert_eq!(Arc::strong_count(&bytes), 1);
    }

    #[test]
    fn what_libtorch_refuses_is_an_error() {
        let error = backward(&random(&[2]), &random(&[2])).unwrap_err();
        assert!(matches!(&error, Error::Torch(text) if !text.contains("Exception raised")), "{error}");
    }
}
