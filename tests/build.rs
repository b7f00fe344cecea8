//! Builds the probe: a static program without dependencies that runs inside containers, images without a C library
//! included. One `rustc` call, as for the keeper: cargo has no per-binary `crt-static`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=probe");
    println!("cargo::rerun-if-changed=kit/noise.rs");
    let out = PathBuf::from(var("OUT_DIR")).join("orangery-probe");
    if var("CARGO_CFG_TARGET_OS") != "linux" {
        if let Err(error) = fs::write(&out, []) {
            fail(&format!("cannot write {}: {error}", out.display()));
        }
        return;
    }
    build(&out, &var("TARGET"));
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn fail(why: &str) -> ! {
    println!("cargo::error={why}");
    std::process::exit(1)
}

#[expect(clippy::disallowed_methods, reason = "a build script runs the compiler")]
fn build(out: &Path, target: &str) {
    let status = Command::new(var("RUSTC"))
        .args(["probe/main.rs", "--crate-name=orangery_probe", "--crate-type=bin", "--edition=2024"])
        .args(["--target", target, "-Copt-level=1", "-Cpanic=abort", "-Cstrip=symbols"])
        .args(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"])
        .arg("-o")
        .arg(out)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("building the probe failed: {status}")),
        Err(error) => fail(&format!("cannot run rustc for the probe: {error}")),
    }
}
