// What tch leaves out: backward with given gradients, fused AdamW, clipping, tensors over memory that others own,
// determinism flags, allocator statistics. Every symbol used lies in libtorch_cpu or libc10; no CUDA header is needed.
//
// Each function returns 0, or 1 with the text in `pipe_shim_error()` of the same thread.

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <string>
#include <vector>

using at::Tensor;

static thread_local std::string last_error;

template <typename Body>
static int guarded(Body body) {
  try {
    body();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "unknown C++ exception";
  }
  return 1;
}

static std::vector<Tensor> list(Tensor* const* items, int64_t count) {
  std::vector<Tensor> tensors;
  tensors.reserve(count);
  for (int64_t i = 0; i < count; i++) tensors.push_back(*items[i]);
  return tensors;
}

static std::vector<Tensor> grads_of(Tensor* const* params, int64_t count) {
  std::vector<Tensor> grads;
  grads.reserve(count);
  for (int64_t i = 0; i < count; i++) {
    TORCH_CHECK(params[i]->grad().defined(), "parameter ", i, " has no gradient");
    grads.push_back(params[i]->grad());
  }
  return grads;
}

// y = x Wᵀ + bias + scale · z Aᵀ Bᵀ with frozen W and bias, where z is x, or x with elements dropped.
//
// The products with a thin matrix are written so that the thin side comes first: MKL takes up to five times as long for
// the same product transposed, and autograd would choose that for half of them.
struct LoraLinear : public torch::autograd::Function<LoraLinear> {
  static Tensor forward(
      torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& z, const Tensor& weight,
      const std::optional<Tensor>& bias, const Tensor& a, const Tensor& b, double scale) {
    TORCH_CHECK(!weight.requires_grad(), "the base of an adapter is frozen");
    auto low = at::mm(a, z.t());
    auto y = bias ? at::addmm(*bias, x, weight.t()) : at::mm(x, weight.t());
    y.addmm_(low.t(), b.t(), /*beta=*/1, scale);
    context->save_for_backward({z, weight, a, b, low});
    context->saved_data["scale"] = scale;
    context->saved_data["dropped"] = !x.is_same(z);
    return y;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto saved = context->get_saved_variables();
    const auto &z = saved[0], &weight = saved[1], &a = saved[2], &b = saved[3], &low = saved[4];
    const auto& dy = grads[0];
    double scale = context->saved_data["scale"].toDouble();
    bool dropped = context->saved_data["dropped"].toBool();
    auto dlow = at::mm(b.t(), dy.t()).mul_(scale);
    Tensor dx, dz;
    if (context->needs_input_grad(0)) {
      dx = at::mm(dy, weight);
      if (!dropped) dx.addmm_(dlow.t(), a);
    }
    if (dropped && context->needs_input_grad(1)) dz = at::mm(dlow.t(), a);
    auto da = at::mm(dlow, z);
    auto db = at::mm(low, dy).mul_(scale).t().contiguous();
    return {dx, dz, Tensor(), Tensor(), da, db, Tensor()};
  }
};

// x / √(mean x² + ε) over the last dimension, in 32 bits, rounded to the type of x, times a frozen weight.
//
// Autograd would walk back through each of the five operations; the derivative as a whole takes half as many.
struct RmsNorm : public torch::autograd::Function<RmsNorm> {
  static Tensor forward(
      torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& weight, double eps) {
    TORCH_CHECK(!weight.requires_grad(), "the weight of a norm is frozen");
    auto wide = x.to(at::kFloat);
    auto inverse = wide.square().mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
    context->save_for_backward({x, inverse, weight});
    return wide.mul(inverse).to(x.scalar_type()).mul_(weight);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto saved = context->get_saved_variables();
    const auto &x = saved[0], &inverse = saved[1], &weight = saved[2];
    auto normal = x.to(at::kFloat).mul(inverse);
    auto dnormal = grads[0].mul(weight).to(at::kFloat);
    auto along = dnormal.mul(normal).mean(-1, /*keepdim=*/true);
    auto dx = at::addcmul(dnormal, normal, along, /*value=*/-1).mul_(inverse);
    return {dx.to(x.scalar_type()), Tensor(), Tensor()};
  }
};

extern "C" {

const char* pipe_shim_error() { return last_error.c_str(); }

// Accumulates d(outputs · grads) into the leaves' `.grad`.
int pipe_backward(Tensor* const* outputs, Tensor* const* grads, int64_t count) {
  return guarded([&] {
    torch::autograd::backward(list(outputs, count), list(grads, count), /*retain_graph=*/false, /*create_graph=*/false);
  });
}

// base += alpha * left @ right, recorded by autograd; `base` must not be needed by an earlier backward.
int pipe_addmm_(Tensor* base, Tensor* left, Tensor* right, double alpha) {
  return guarded([&] { base->addmm_(*left, *right, /*beta=*/1, alpha); });
}

// `in` is x, z, weight, bias (or null), A, B; z is x itself where nothing is dropped.
int pipe_lora_linear(Tensor* const* in, double scale, Tensor** out) {
  return guarded([&] {
    std::optional<Tensor> bias;
    if (in[3] != nullptr) bias = *in[3];
    *out = new Tensor(LoraLinear::apply(*in[0], *in[1], *in[2], bias, *in[4], *in[5], scale));
  });
}

int pipe_rms_norm(Tensor* x, Tensor* weight, double eps, Tensor** out) {
  return guarded([&] { *out = new Tensor(RmsNorm::apply(*x, *weight, eps)); });
}

int pipe_clear_grads(Tensor* const* params, int64_t count) {
  return guarded([&] {
    for (int64_t i = 0; i < count; i++) params[i]->mutable_grad().reset();
  });
}

// torch.nn.utils.clip_grad_norm_: scales the gradients by min(1, max_norm / (total + 1e-6)) when max_norm > 0.
// `norms` gets one norm per parameter, `total` the norm of them all, both before clipping.
int pipe_clip_grads(Tensor* const* params, int64_t count, double max_norm, Tensor** norms, Tensor** total) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto grads = grads_of(params, count);
    auto each = at::stack(at::_foreach_norm(grads, 2.0));
    auto all = at::linalg_vector_norm(each, 2.0);
    if (max_norm > 0) {
      auto coefficient = at::clamp_max(at::reciprocal(all + 1e-6) * max_norm, 1.0);
      at::_foreach_mul_(grads, coefficient);
    }
    *norms = new Tensor(each);
    *total = new Tensor(all);
  });
}

struct PipeAdamW {
  double lr, beta1, beta2, weight_decay, eps;
};

// One step of torch.optim.AdamW(fused=True) over the parameters' gradients.
int pipe_fused_adamw(
    Tensor* const* params, Tensor* const* exp_avgs, Tensor* const* exp_avg_sqs, Tensor* const* steps, int64_t count,
    const PipeAdamW* o) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto p = list(params, count), g = grads_of(params, count), m = list(exp_avgs, count);
    auto v = list(exp_avg_sqs, count), s = list(steps, count);
    std::vector<Tensor> max_exp_avg_sqs;
    at::_foreach_add_(s, 1);
    at::_fused_adamw_(
        p, g, m, v, max_exp_avg_sqs, s, o->lr, o->beta1, o->beta2, o->weight_decay, o->eps, /*amsgrad=*/false,
        /*maximize=*/false);
  });
}

// A tensor over `data`, which `release(owner)` gives back when the last tensor over it is gone.
int pipe_borrow(
    void* data, const int64_t* shape, int64_t dims, int kind, void* owner, void (*release)(void*), Tensor** out) {
  return guarded([&] {
    auto options = at::TensorOptions().dtype(static_cast<at::ScalarType>(kind)).device(at::kCPU);
    *out = new Tensor(at::from_blob(
        data, at::IntArrayRef(shape, dims), [owner, release](void*) { release(owner); }, options));
  });
}

int pipe_seed(uint64_t seed) {
  return guarded([&] { at::manual_seed(seed); });
}

int pipe_set_threads(int threads) {
  return guarded([&] { at::set_num_threads(threads); });
}

int pipe_threads() { return at::get_num_threads(); }

int pipe_set_flags(int deterministic, int tf32) {
  return guarded([&] {
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(deterministic, /*warn_only=*/false);
    context.setDeterministicCuDNN(deterministic);
    context.setBenchmarkCuDNN(false);
    context.setAllowTF32CuBLAS(tf32);
    context.setAllowTF32CuDNN(tf32);
    context.setAllowBF16ReductionCuBLAS(false);
    context.setAllowFP16ReductionCuBLAS(false);
  });
}

// out: bytes allocated now, their peak, the peak of bytes reserved, out-of-memory events.
int pipe_cuda_memory(int device, int64_t* out) {
  return guarded([&] {
    auto stats = at::getDeviceAllocator(c10::DeviceType::CUDA)->getDeviceStats(device);
    out[0] = stats.allocated_bytes[0].current;
    out[1] = stats.allocated_bytes[0].peak;
    out[2] = stats.reserved_bytes[0].peak;
    out[3] = stats.num_ooms;
  });
}

int pipe_cuda_reset_peak(int device) {
  return guarded([&] { at::getDeviceAllocator(c10::DeviceType::CUDA)->resetPeakStats(device); });
}

int pipe_cuda_empty_cache() {
  return guarded([&] { at::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache(); });
}

// The path under which libtorch_cpu was loaded, or null.
const char* pipe_library_path() {
  static thread_local std::string path;
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&at::globalContext), &info) == 0 || info.dli_fname == nullptr) return nullptr;
  path = info.dli_fname;
  return path.c_str();
}

}  // extern "C"
