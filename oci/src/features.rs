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
        "hooks": [],
        "mountOptions": oci::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": caps,
            "seccomp": { "enabled": true },
            "mountExtensions": { "idmap": { "enabled": true } },
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false },
        },
        "annotations": { "io.github.orangery.version": env!("CARGO_PKG_VERSION") },
    });
    print(&serde_json::to_string_pretty(&features))
}
