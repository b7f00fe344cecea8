//! A root file system made of a static busybox, for trials with a root of their own. Hostile variants are made by the
//! trials themselves.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::Scene;

/// Applets that trials call.
const APPLETS: [&str; 8] = ["sh", "true", "false", "cat", "echo", "ls", "id", "sleep"];

impl Scene {
    /// A fresh image `name` with busybox, the probe, and a directory for everything that is mounted.
    pub fn image(&self, name: &str) -> PathBuf {
        let image = self.dir().join(name);
        for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "run", "root", "var", "home", "usr"] {
            fs::create_dir_all(image.join(dir)).expect("a directory of the image");
        }
        install(Path::new("/usr/bin/busybox"), &image.join("bin/busybox"));
        install(self.probe(), &image.join("probe"));
        for applet in APPLETS {
            symlink("busybox", image.join("bin").join(applet)).expect("an applet");
        }
        fs::write(
            image.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nbuilder:x:1234:4321:b:/home/builder:/bin/sh\n",
        )
        .expect("passwd");
        fs::write(image.join("etc/group"), "root:x:0:\nbuilder:x:4321:\nmakers:x:77:builder\n").expect("group");
        fs::write(image.join("etc/marker"), "the image").expect("marker");
        image
    }
}

fn install(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("its mode");
}
