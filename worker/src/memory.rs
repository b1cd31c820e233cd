//! How much memory a step needed at most.

use pipe_engine::step::Sink;
use pipe_models::Device;

/// Watches the memory of one step.
pub struct Peak {
    device: Device,
    /// The kernel's peak began anew with this step; otherwise it tells of earlier steps too and is left out.
    process: bool,
}

impl Peak {
    /// Begins to watch.
    pub fn start(device: Device) -> Self {
        // "5" sets the peak of resident memory to what is resident now (Linux, proc_pid_clear_refs(5)).
        let process = std::fs::write("/proc/self/clear_refs", "5").is_ok();
        // A device that cannot count tells nothing below either.
        let _ = device.reset_peak_memory();
        Self { device, process }
    }

    /// Reports the peaks that are known.
    pub fn measure(&self, sink: &dyn Sink) {
        if self.process
            && let Some(bytes) = resident_peak()
        {
            sink.measure("peak_memory_bytes", as_f64(bytes));
        }
        if let Ok(Some(memory)) = self.device.memory() {
            sink.measure("peak_device_memory_bytes", as_f64(memory.peak_reserved.unsigned_abs()));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
const fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

/// The most bytes this process had resident.
fn resident_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_the_peak() {
        let held = std::hint::black_box(vec![1_u8; 32 << 20]);
        assert!(resident_peak().unwrap() > held.len() as u64);
    }
}
