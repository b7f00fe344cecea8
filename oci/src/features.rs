//! `features`: what this runtime can do, in the specification's words. It says less
//! than there is: lists of actions and the like are left out, which is "unknown" there.

use orangery_runtime::spec::oci;
use serde_json::json;

use crate::failure::Failure;
use crate::state::print;

/// `features`, whole.
///
/// # Errors
/// Nobody reads it.
pub(crate) fn features() -> Result<(), Failure> {
    let caps = orangery_runtime::spec::CapSet::ALL.names();
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "mountOptions": oci::mount_options(),
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": caps,
            "seccomp": { "enabled": true, "archs": archs() },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "memoryPolicy": {
                "modes": ["MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
                    "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "netDevices": { "enabled": true },
            "mountExtensions": { "idmap": { "enabled": true } },
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
        },
        "annotations": { "io.github.orangery.version": env!("CARGO_PKG_VERSION") },
    });
    print(&serde_json::to_string_pretty(&features))
}

/// Whose calls a filter can be about.
fn archs() -> [&'static str; 2] {
    if cfg!(target_arch = "aarch64") {
        ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    } else {
        ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
    }
}
