//! Compiles the C++ shim against the libtorch that `torch-sys` uses, and lets this package's tests find it.
//!
//! Nothing here names `libtorch_cuda`: a CUDA device opens it at run time (`src/device.rs`). Link arguments do not
//! reach dependents, so a *binary* that uses this crate needs the two `rustc-link-arg` lines of [`rpath`] in its own
//! build script, with `torch-sys` among its dependencies for `DEP_TCH_LIBTORCH_LIB`.

use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=csrc/shim.cpp");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let lib =
        PathBuf::from(std::env::var_os("DEP_TCH_LIBTORCH_LIB").ok_or("torch-sys did not say where libtorch lies")?);
    compile_shim(&lib)?;
    rpath(&lib);
    Ok(())
}

fn compile_shim(lib: &Path) -> Result<(), Box<dyn Error>> {
    let include = lib.parent().ok_or("libtorch's lib directory has no parent")?.join("include");
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .std("c++17")
        .warnings(false)
        .opt_level(2)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .file("csrc/shim.cpp")
        .try_compile("pipe_shim")?;
    Ok(())
}

/// `libtorch_cpu.so` finds its own needs (`libcudart.so`, `libgomp.so`) only through a path that is passed on, which
/// `DT_RPATH` is and the newer `DT_RUNPATH` is not.
fn rpath(lib: &Path) {
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
}
