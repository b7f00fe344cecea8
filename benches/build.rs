//! Builds the two programs that the benchmarks start: the guest (`true` and `pause`) and the bare stub. One `rustc`
//! call each, as for the keeper: both must be static, and the stub must be as small as what it is compared with.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=guest");
    println!("cargo::rerun-if-changed=bare");
    println!("cargo::rerun-if-changed=../runtime/src/plan/wire.rs");
    println!("cargo::rerun-if-changed=../runtime/src/plan/wire");
    let freestanding = [
        "-Cpanic=abort",
        "-Crelocation-model=static",
        "-Clink-arg=-nostartfiles",
        "-Clink-arg=-nostdlib",
        "-Clink-arg=-static",
        "-Clink-arg=-no-pie",
        "-Clink-arg=-Wl,--build-id=none",
        "-Clink-arg=-Wl,-z,noexecstack",
    ];
    build("guest/main.rs", "orangery-guest", &freestanding);
    build(
        "bare/main.rs",
        "orangery-bare",
        &["-Cpanic=abort", "-Crelocation-model=static", "-Ctarget-feature=+crt-static"],
    );
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn fail(why: &str) -> ! {
    println!("cargo::error={why}");
    std::process::exit(1)
}

#[expect(clippy::disallowed_methods, reason = "a build script runs the compiler")]
fn build(source: &str, name: &str, flags: &[&str]) {
    let out = PathBuf::from(var("OUT_DIR")).join(name);
    if var("CARGO_CFG_TARGET_OS") != "linux" {
        if let Err(error) = fs::write(&out, []) {
            fail(&format!("cannot write {}: {error}", out.display()));
        }
        return;
    }
    let status = Command::new(var("RUSTC"))
        .args([source, &format!("--crate-name={}", name.replace('-', "_")), "--crate-type=bin", "--edition=2024"])
        .args(["--target", &var("TARGET"), "-Copt-level=2", "-Cstrip=symbols", "-Ccodegen-units=1"])
        .args(flags)
        .arg("-o")
        .arg(out)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("building {name} failed: {status}")),
        Err(error) => fail(&format!("cannot run rustc for {name}: {error}")),
    }
}
