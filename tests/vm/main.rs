//! Trials in a virtual machine: a packaged kernel (Debian's 6.1) on **pure cgroup v2**, where v2 limits and OOM verdicts
//! are real and where there is no pidfs, no PIDFD_GET_INFO and no id-mapped tmpfs.
//!
//! ```text
//!  host.rs      what is needed is there?  find the programs (cargo), pack, boot, read the console ─► one trial a line
//!    kernel.rs    the packaged kernel, unpacked below target/tmp, never installed
//!    archive.rs   the initramfs: a cpio archive
//!  ─────────────────────────────────────── qemu ───────────────────────────────────────
//!  boot.rs      pid 1: mounts, runs each suite, takes stock, powers off
//!    suites.rs    which programs run in the machine; both sides read this list
//!    guest.rs     our own suite: trials of the kit, as everywhere else
//!      user.rs      its parts that run as an ordinary user
//! ```
//!
//! And once more with Debian's systemd, where its packages can be had: `systemd.rs` is the host's side, `session.rs`
//! and `oci.rs` what runs there.
//!
//! One program plays all parts: as pid 1 it boots, in the machine it is a kit harness, else it is the host side. It runs
//! with `ORANGERY_VM=1` only (CI sets it where it could install qemu) and is otherwise counted as skipped:
//!
//! ```text
//!  ORANGERY_VM=1 cargo test --workspace --all-features --test vm   Debian: qemu-system-x86 busybox-static e2fsprogs
//!    ORANGERY_VM_SUITES=limits,lifecycle@user                     further test targets, as root or as uid 1000
//!    ORANGERY_VM_KERNEL=DIR                                       an unpacked kernel package instead of apt's
//!    ORANGERY_VM_ACCEL=kvm                                        instead of emulation
//!    ORANGERY_VM_MACHINE=plain|systemd                            one of the two machines
//!    ORANGERY_VM_LIMIT=SECONDS                                    600 if unset: enough on a busy machine; an idle one takes 100
//!  target/tmp/vm/console.txt, log.txt                             what the machine said, how long each trial took
//! ```
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod archive;
mod boot;
mod guest;
mod host;
mod kernel;
mod oci;
mod session;
mod suites;
mod systemd;
mod user;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var_os(oci::ROLE).is_some() {
        return orangery_oci::main(std::env::args_os());
    }
    if std::process::id() == 1 {
        return if std::env::var_os(boot::SYSTEMD).is_some() { boot::hand_over() } else { boot::run() };
    }
    if let Some(role) = std::env::var_os(user::ROLE) {
        return user::run(&role);
    }
    if let Ok(part) = std::env::var(session::SESSION) {
        return session::run(&part);
    }
    if std::env::var_os(suites::GUEST).is_some() {
        return guest::run();
    }
    host::run()
}
