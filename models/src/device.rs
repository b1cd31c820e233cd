//! Devices, number types, threads and the other process-wide settings of libtorch.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::shim;

/// The name of a device: `cpu`, `cuda` (the first) or `cuda:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::Device {
            device: text.to_owned(),
            reason: "it is none of `cpu`, `cuda`, `cuda:0`, `cuda:1`, …".to_owned(),
        };
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => {
                let number = other.strip_prefix("cuda:").ok_or_else(unknown)?;
                number.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// A device that is known to work; there is no silent way from CUDA to the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    name: DeviceName,
}

impl Device {
    /// Makes the device ready. A CUDA device must be opened before the process makes its first tensor, because
    /// libtorch looks for its CUDA half once.
    ///
    /// Fails where CUDA is asked for and this machine, its driver or the libtorch in use lacks it.
    pub fn open(name: DeviceName) -> Result<Self> {
        if let DeviceName::Cuda(number) = name {
            let failed = |reason: String| Error::Device { device: name.to_string(), reason };
            open_libtorch_cuda().map_err(failed)?;
            if !tch::Cuda::is_available() {
                return Err(failed("libtorch finds no CUDA device: see `nvidia-smi`, or use `cpu`".to_owned()));
            }
            let count = tch::Cuda::device_count();
            if i64::try_from(number).map_or(true, |number| number >= count) {
                return Err(failed(format!("this machine has {count}, numbered from 0")));
            }
        }
        Ok(Self { name })
    }

    /// The processor, which is always there.
    pub fn cpu() -> Self {
        Self { name: DeviceName::Cpu }
    }

    /// The name it was opened by.
    pub fn name(self) -> DeviceName {
        self.name
    }

    /// What the device's memory has held since [`reset_peak_memory`](Self::reset_peak_memory); `None` on the CPU.
    pub fn memory(self) -> Result<Option<DeviceMemory>> {
        let DeviceName::Cuda(number) = self.name else { return Ok(None) };
        let [allocated, peak_allocated, peak_reserved, out_of_memory] = shim::cuda_memory(number as i32)?;
        Ok(Some(DeviceMemory { allocated, peak_allocated, peak_reserved, out_of_memory }))
    }

    /// Starts the peaks of [`memory`](Self::memory) anew; does nothing on the CPU.
    pub fn reset_peak_memory(self) -> Result<()> {
        match self.name {
            DeviceName::Cpu => Ok(()),
            DeviceName::Cuda(number) => shim::cuda_reset_peak(number as i32),
        }
    }

    /// Gives memory that libtorch holds but does not use back to the driver; does nothing on the CPU.
    pub fn empty_cache(self) -> Result<()> {
        match self.name {
            DeviceName::Cpu => Ok(()),
            DeviceName::Cuda(_) => shim::cuda_empty_cache(),
        }
    }

    pub(crate) fn tch(self) -> tch::Device {
        match self.name {
            DeviceName::Cpu => tch::Device::Cpu,
            DeviceName::Cuda(number) => tch::Device::Cuda(number),
        }
    }
}

/// Memory of a CUDA device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Held by tensors now.
    pub allocated: i64,
    /// The most held by tensors.
    pub peak_allocated: i64,
    /// The most taken from the driver.
    pub peak_reserved: i64,
    /// How often an allocation failed (a count, not bytes).
    pub out_of_memory: i64,
}

/// Opens `libtorch_cuda.so` from beside the loaded `libtorch_cpu.so`, once per process.
fn open_libtorch_cuda() -> Result<(), String> {
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    OPENED
        .get_or_init(|| {
            let cpu = shim::library_path().ok_or("the dynamic loader does not say where libtorch_cpu lies")?;
            let cpu = cpu.canonicalize().map_err(|error| format!("{}: {error}", cpu.display()))?;
            let cuda = cpu.parent().unwrap_or(Path::new("/")).join("libtorch_cuda.so");
            if !cuda.exists() {
                return Err(format!(
                    "{} does not exist: point LIBTORCH at a PyTorch 2.11 built for CUDA, or use `cpu`",
                    cuda.display()
                ));
            }
            load_for_good(&cuda)
        })
        .clone()
}

#[allow(unsafe_code)]
fn load_for_good(path: &Path) -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // Safety: the initialisers of libtorch_cuda register its kernels with the libtorch_cpu it was built with, which is
    // already loaded from the same directory. It is never unloaded.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    let library = library.map_err(|error| format!("{}: {error}", path.display()))?;
    std::mem::forget(library);
    Ok(())
}

/// The number type of a model's weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DType {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats with the exponent of 32-bit ones.
    Bf16,
    /// IEEE 16-bit floats.
    F16,
}

impl DType {
    pub(crate) fn kind(self) -> tch::Kind {
        match self {
            Self::F32 => tch::Kind::Float,
            Self::Bf16 => tch::Kind::BFloat16,
            Self::F16 => tch::Kind::Half,
        }
    }
}

impl FromStr for DType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" | "float32" => Ok(Self::F32),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            "f16" | "float16" => Ok(Self::F16),
            other => Err(Error::input(format!("dtype `{other}` is none of `float32`, `bfloat16`, `float16`"))),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        })
    }
}

/// Sets how many threads one operation may use (1 or more). The count changes rounding, so whoever promises bits sets it.
pub fn set_num_threads(threads: usize) -> Result<()> {
    match i32::try_from(threads) {
        Ok(threads) if threads > 0 => shim::set_threads(threads),
        _ => Err(Error::input(format!("{threads} threads: give 1 or more"))),
    }
}

/// How many threads one operation may use.
pub fn num_threads() -> usize {
    usize::try_from(shim::threads()).unwrap_or(1)
}

/// Settles what libtorch leaves to the machine: with `deterministic`, CUDA operations that differ from run to run are
/// errors; with `tf32`, CUDA may round 32-bit products to 10 bits of mantissa.
///
/// For bit-equal CUDA runs the environment must hold `CUBLAS_WORKSPACE_CONFIG=:4096:8` before the process starts.
pub fn set_determinism(deterministic: bool, tf32: bool) -> Result<()> {
    shim::set_flags(deterministic, tf32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (text, name) in [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:3", "cuda:3")] {
            assert_eq!(text.parse::<DeviceName>().unwrap().to_string(), name);
        }
        for text in ["gpu", "cuda:", "cuda:-1", "CPU", ""] {
            assert!(text.parse::<DeviceName>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_absent_cuda_is_an_error_and_not_the_cpu() {
        if let Err(error) = Device::open(DeviceName::Cuda(4096)) {
            assert!(error.to_string().starts_with("device `cuda:4096` cannot be used: "), "{error}");
        } else {
            panic!("device 4096 was opened");
        }
    }

    #[test]
    fn thread_counts_are_set_and_read() {
        set_num_threads(1).unwrap();
        assert_eq!(num_threads(), 1);
        assert!(set_num_threads(0).is_err());
    }
}
