//! Directories of an overlay by shorter names: an option of fsconfig(2) has 255 bytes, where one of mount(2) had a page. podman's images as
//! mounts have two paths of its store in one.

use std::path::{Component, Path, PathBuf};

/// What fsconfig(2) takes.
pub(crate) const LONGEST: usize = 255;
const OF_PATHS: [&str; 3] = ["lowerdir", "upperdir", "workdir"];

/// The directory above all that these options name, and the options as they are from there; where one is too long and all of them are plain
/// absolute paths. Whether that is short enough is asked by whoever looks at options.
pub(crate) fn shortened(kind: &str, options: &[(String, String)]) -> Option<(PathBuf, Vec<(String, String)>)> {
    let has_paths = |key: &String| OF_PATHS.contains(&key.as_str());
    let long = |(key, value): &(String, String)| has_paths(key) && value.len() > LONGEST;
    if kind != "overlay" || !options.iter().any(long) {
        return None;
    }
    let paths: Vec<&Path> = options
        .iter()
        .filter(|(key, _)| has_paths(key))
        .flat_map(|(_, value)| value.split(':').map(Path::new))
        .collect();
    // A backslash is one of overlayfs's own escapes.
    let plain = |path: &&Path| {
        path.is_absolute()
            && !path.as_os_str().as_encoded_bytes().contains(&b'\\')
            && !path.components().any(|part| part == Component::ParentDir)
    };
    let (first, rest) = paths.split_first()?;
    if !paths.iter().all(plain) {
        return None;
    }
    let mut above = first.parent()?;
    while !rest.iter().all(|path| path.parent().is_some_and(|parent| parent.starts_with(above))) {
        above = above.parent()?;
    }
    let short = |path: &str| {
        let path = Path::new(path);
        path.strip_prefix(above).unwrap_or(path).to_string_lossy().into_owned()
    };
    let relative = |(key, value): &(String, String)| match has_paths(key) {
        true => (key.clone(), value.split(':').map(short).collect::<Vec<_>>().join(":")),
        false => (key.clone(), value.clone()),
    };
    Some((above.to_owned(), options.iter().map(relative).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(lower: &str, upper: &str) -> Vec<(String, String)> {
        [("lowerdir", lower), ("upperdir", upper), ("index", "off")]
            .map(|(key, value)| (key.into(), value.into()))
            .into()
    }

    #[test]
    fn long_ones_are_counted_from_the_directory_above_all() {
        let base = format!("/{}", "store/".repeat(30));
        let given = options(&format!("{base}images/one:{base}containers/two"), &format!("{base}images/upper"));
        let (above, short) = shortened("overlay", &given).unwrap();
        assert_eq!(above, Path::new(base.trim_end_matches('/')));
        assert_eq!(short, options("images/one:containers/two", "images/upper"));
    }

    #[test]
    fn others_stay_as_they_are() {
        let long = format!("/{}", "a".repeat(200));
        for (kind, lower) in [
            ("overlay", "/short:/paths".to_owned()),
            ("tmpfs", format!("{long}:{long}")),
            ("overlay", format!("{long}:relative/{long}")),
            ("overlay", format!("{long}:{long}\\:x")),
            ("overlay", format!("{long}/../b:{long}")),
        ] {
            assert_eq!(shortened(kind, &options(&lower, "/upper")), None, "{kind} {lower}");
        }
    }
}
