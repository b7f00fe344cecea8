//! Builds the keeper: one `rustc` call for a freestanding program, which the library embeds.
//!
//! It is not a workspace member: it needs `panic = abort`, which cargo only offers for a whole profile, while actix
//! needs unwinding. Nothing of the user's profile or RUSTFLAGS reaches it, on purpose.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=keeper");
    println!("cargo::rerun-if-changed=src/plan/wire.rs");
    println!("cargo::rerun-if-changed=src/plan/wire");
    println!("cargo::rerun-if-env-changed=ORANGERY_KEEPER_PANIC_CHECK");
    println!("cargo::rustc-check-cfg=cfg(orangery_panic_check)");
    let out = PathBuf::from(var("OUT_DIR")).join("orangery-keeper");
    let (os, arch) = (var("CARGO_CFG_TARGET_OS"), var("CARGO_CFG_TARGET_ARCH"));
    if os != "linux" {
        // Before anything of ours is compiled there: a `compile_error!` in the library is one error among dozens.
        fail("orangery runs on Linux: it is made of namespaces, cgroups and pidfds");
    }
    if env::var_os("DOCS_RS").is_some() || !matches!(arch.as_str(), "x86_64" | "aarch64") {
        // On another processor the library says `compile_error!` itself; documentation builds need no keeper.
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
    let mut rustc = Command::new(var("RUSTC"));
    // Small: its code lies in a memfd, where every page is memory of its own, and what it does is system calls.
    rustc
        .args(["keeper/main.rs", "--crate-name=orangery_keeper", "--crate-type=bin", "--edition=2024"])
        .args(["--target", target, "-Copt-level=s", "-Cpanic=abort", "-Coverflow-checks=off"])
        .args(["-Ccodegen-units=1", "-Cforce-unwind-tables=no", "-Crelocation-model=static", "-Cstrip=symbols"])
        .args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib", "-Clink-arg=-static", "-Clink-arg=-no-pie"])
        .args(["-Clink-arg=-Wl,--gc-sections", "-Clink-arg=-Wl,--build-id=none", "-Clink-arg=-Wl,-z,noexecstack"])
        .arg("--check-cfg=cfg(orangery_panic_check)")
        .arg("-o")
        .arg(out);
    if target.contains("musl") {
        // rustc would bring a start of its own.
        rustc.arg("-Clink-self-contained=no");
    }
    if env::var_os("ORANGERY_KEEPER_PANIC_CHECK").is_some() {
        rustc.args(["--cfg", "orangery_panic_check"]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={}", linker.to_string_lossy()));
    }
    match rustc.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("building the keeper failed: {status}")),
        Err(error) => fail(&format!("cannot run rustc for the keeper: {error}")),
    }
}
