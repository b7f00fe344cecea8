//! A packaged kernel: downloaded and unpacked once below target/tmp, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An unpacked kernel package: `<root>/boot/vmlinuz-*` and `<root>/lib/modules`.
const UNPACKED: &str = "ORANGERY_VM_KERNEL";
/// The package that depends on Debian's current one.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel that can be booted.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// The one that `ORANGERY_VM_KERNEL` names, the one unpacked earlier, or a fresh download.
    pub(crate) fn find(cache: &Path) -> Result<Kernel, String> {
        if let Some(root) = std::env::var_os(UNPACKED) {
            return Kernel::below(Path::new(&root)).ok_or(format!("{UNPACKED} names no unpacked kernel package"));
        }
        let root = cache.join("kernel");
        if let Some(kernel) = Kernel::below(&root) {
            return Ok(kernel);
        }
        download(cache, &root)?;
        Kernel::below(&root).ok_or(format!("{PACKAGE} has no kernel in it"))
    }

    fn below(root: &Path) -> Option<Kernel> {
        let named = |dir: &str, prefix: &str| {
            let mut found = fs::read_dir(root.join(dir)).ok()?.flatten().map(|entry| entry.path());
            found.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        };
        let modules = named("lib/modules", "").or_else(|| named("usr/lib/modules", ""))?;
        Some(Kernel { image: named("boot", "vmlinuz-")?, modules })
    }

    /// A module's file, if the kernel has it as an uncompressed module.
    pub(crate) fn module(&self, path: &str) -> Option<PathBuf> {
        Some(self.modules.join("kernel").join(path)).filter(|file| file.exists())
    }
}

fn download(cache: &Path, root: &Path) -> Result<(), String> {
    let depends = output(cache, "apt-cache", &["depends", "--important", PACKAGE])?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let package = format!("linux-image-{}", package.ok_or(format!("apt knows no kernel behind {PACKAGE}"))?);
    output(cache, "apt-get", &["download", &package])?;
    let downloaded = fs::read_dir(cache).map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
    let is_package = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&package));
    let deb = downloaded.into_iter().find(is_package).ok_or(format!("apt-get downloaded no {package}"))?;
    output(cache, "dpkg-deb", &["-x", &deb.to_string_lossy(), &root.to_string_lossy()])?;
    fs::remove_file(deb).map_err(|error| error.to_string())
}

#[expect(clippy::disallowed_methods, reason = "the package manager's own programs")]
pub(crate) fn output(dir: &Path, program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).current_dir(dir).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} {} failed: {}", args.join(" "), why.lines().last().unwrap_or("")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
