//! Where the daemon and its clients meet when nobody says so.

use std::ffi::OsString;
use std::path::PathBuf;

/// The state directory: `/var/lib/orangery` for root, else `orangery` in `$XDG_STATE_HOME` or `~/.local/state`.
#[must_use]
pub fn default_state_dir() -> PathBuf {
    state_dir(rustix::process::geteuid().is_root(), |name| std::env::var_os(name))
}

/// The socket: `/run/orangery-serve/socket` for root, else the same in `$XDG_RUNTIME_DIR`; where there is none, `socket` in
/// the [state directory](default_state_dir).
#[must_use]
pub fn default_socket() -> PathBuf {
    socket(rustix::process::geteuid().is_root(), |name| std::env::var_os(name))
}

/// A variable that says an absolute path, which is all that counts (XDG base directories).
fn path(variable: &impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn state_dir(root: bool, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    if root {
        return "/var/lib/orangery".into();
    }
    let state = path(&variable, "XDG_STATE_HOME").or_else(|| Some(path(&variable, "HOME")?.join(".local/state")));
    state.unwrap_or_else(std::env::temp_dir).join("orangery")
}

fn socket(root: bool, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let run = if root { Some("/run".into()) } else { path(&variable, "XDG_RUNTIME_DIR") };
    match run {
        Some(run) => run.join("orangery-serve/socket"),
        None => state_dir(root, variable).join("socket"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_root_and_for_others() {
        let of = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        let (full, bare) = (of(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/7")]), of(&[("HOME", "/h")]));
        assert_eq!(state_dir(true, full), PathBuf::from("/var/lib/orangery"));
        assert_eq!(socket(true, full), PathBuf::from("/run/orangery-serve/socket"));
        assert_eq!(state_dir(false, full), PathBuf::from("/h/.local/state/orangery"));
        assert_eq!(socket(false, full), PathBuf::from("/run/user/7/orangery-serve/socket"));
        assert_eq!(socket(false, bare), PathBuf::from("/h/.local/state/orangery/socket"));
        let relative = of(&[("HOME", "/h"), ("XDG_STATE_HOME", "here"), ("XDG_RUNTIME_DIR", "")]);
        assert_eq!(socket(false, relative), PathBuf::from("/h/.local/state/orangery/socket"));
    }
}
