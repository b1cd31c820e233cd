//! Lets the program find the libtorch it was built with, wherever the program itself is copied.
//!
//! Nothing here names `libtorch_cuda`: a CUDA device opens it at run time, from beside `libtorch_cpu`.

use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let lib =
        PathBuf::from(std::env::var_os("DEP_TCH_LIBTORCH_LIB").ok_or("torch-sys did not say where libtorch lies")?);
    rpath(&lib);
    println!("cargo:rustc-env=LIBTORCH_VERSION={}", version(&lib)?);
    Ok(())
}

/// `libtorch_cpu.so` finds its own needs (`libcudart.so`, `libgomp.so`) only through a path that is passed on, which
/// `DT_RPATH` is and the newer `DT_RUNPATH` is not.
fn rpath(lib: &Path) {
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
}

/// The version in libtorch's own header.
fn version(lib: &Path) -> Result<String, Box<dyn Error>> {
    let root = lib.parent().ok_or("libtorch's lib directory has no parent")?;
    let header = root.join("include/torch/headeronly/version.h");
    println!("cargo:rerun-if-changed={}", header.display());
    let text = std::fs::read_to_string(&header).map_err(|error| format!("{}: {error}", header.display()))?;
    let mut quoted = text.split("#define TORCH_VERSION \\").nth(1).unwrap_or_default().split('"');
    let version = quoted.nth(1).ok_or_else(|| format!("{} names no TORCH_VERSION", header.display()))?;
    Ok(version.to_owned())
}
