//! Who a process runs as, out of `name:group` and the container's own /etc/passwd and /etc/group.
//!
//! Pure: the caller reads the files, inside the container's root. They may be hostile: a line that is not exactly of the
//! documented form (passwd(5), group(5)) is skipped, never half used, and nothing here panics.

/// Highest id that is one: 4294967295 is "leave it" to the kernel (setresuid(2)).
const ID_MAX: u32 = u32::MAX - 1;
/// Longest name; shadow-utils allow 32, directory services more.
const NAME_MAX: usize = 256;
/// Most supplementary groups that setgroups(2) takes (NGROUPS_MAX).
const GROUPS_MAX: usize = 65_536;
/// Longest home directory (PATH_MAX with its NUL).
const HOME_MAX: usize = 4095;

/// A number or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameOrId {
    /// This id.
    Id(u32),
    /// To be looked up.
    Name(String),
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRequest {
    /// The user.
    pub user: NameOrId,
    /// The group, if one was named.
    pub group: Option<NameOrId>,
}

/// What it is in this container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, without `gid`, in the order of the file.
    pub groups: Vec<u32>,
    /// Home directory, an absolute path.
    pub home: Option<String>,
}

/// `1000`, `1000:1000`, `name`, `name:group`, or a mixture. Digits only are a number.
///
/// # Errors
/// Anything else: signs, spaces, leading zeros, empty parts, numbers from 4294967295 on.
pub fn parse_user(text: &str) -> Result<UserRequest, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = name_or_id("user", user)?;
    let group = group.map(|group| name_or_id("group", group)).transpose()?;
    Ok(UserRequest { user, group })
}

fn name_or_id(what: &str, text: &str) -> Result<NameOrId, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return match id(text) {
            Some(id) => Ok(NameOrId::Id(id)),
            None => Err(format!("{what} {text:?} is not an id: 0 to {ID_MAX}, without leading zeros")),
        };
    }
    if is_name(text.as_bytes()) {
        return Ok(NameOrId::Name(text.to_owned()));
    }
    Err(format!("{what} {text:?} is neither a number nor a name (letters, digits, `_`, `.`, `-`; no digit first)"))
}

/// Digits only, no leading zero, not "leave it".
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok().filter(|id| *id <= ID_MAX)
}

/// `[A-Za-z_][A-Za-z0-9_.-]*\$?`
fn is_name(text: &[u8]) -> bool {
    let body = text.strip_suffix(b"$").unwrap_or(text);
    let Some((first, rest)) = body.split_first() else {
        return false;
    };
    text.len() <= NAME_MAX
        && (first.is_ascii_alphabetic() || *first == b'_')
        && rest.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
}

/// Look the request up in the contents of /etc/passwd and /etc/group; `None` is a container without the file.
///
/// * The first line that matches counts.
/// * A user number without a line is itself, with **the same number as group** unless one is asked for. (Docker takes
///   group 0, and so gives any number the rights of root's group.)
/// * Without a group asked for, the supplementary groups are those that list the user's name; with one there are none.
/// * `root` without a line is 0:0.
///
/// # Errors
/// A name that is not there; the sentence names it and the file.
pub fn resolve(request: &UserRequest, passwd: Option<&[u8]>, group: Option<&[u8]>) -> Result<Resolved, String> {
    let account = match &request.user {
        NameOrId::Id(uid) => accounts(passwd).find(|account| account.uid == *uid).unwrap_or(Account::bare(*uid)),
        NameOrId::Name(name) => match accounts(passwd).find(|account| account.name == name.as_bytes()) {
            Some(account) => account,
            None if name == "root" => Account::bare(0),
            None => return Err(missing("user", name, "/etc/passwd", passwd)),
        },
    };
    let (gid, groups) = match &request.group {
        Some(NameOrId::Id(gid)) => (*gid, Vec::new()),
        Some(NameOrId::Name(name)) => match groups(group).find(|group| group.name == name.as_bytes()) {
            Some(group) => (group.gid, Vec::new()),
            None if name == "root" => (0, Vec::new()),
            None => return Err(missing("group", name, "/etc/group", group)),
        },
        None => (account.gid, supplementary(&account, group)?),
    };
    Ok(Resolved { uid: account.uid, gid, groups, home: account.home })
}

fn missing(what: &str, name: &str, file: &str, content: Option<&[u8]>) -> String {
    match content {
        Some(_) => format!("{what} {name:?} is not in the container's {file}"),
        None => format!("{what} {name:?} cannot be looked up: the container has no {file}"),
    }
}

fn supplementary(account: &Account<'_>, group: Option<&[u8]>) -> Result<Vec<u32>, String> {
    let mut seen = std::collections::HashSet::from([account.gid]);
    let member = |group: &Group<'_>| group.members.split(|b| *b == b',').any(|member| member == account.name);
    let mut gids = Vec::new();
    // An account without a line has the empty name, which is nobody's.
    for group in groups(group).filter(|group| !account.name.is_empty() && member(group)) {
        if seen.insert(group.gid) {
            gids.push(group.gid);
        }
    }
    if gids.len() > GROUPS_MAX {
        return Err(format!("the container's /etc/group gives the user more than {GROUPS_MAX} groups"));
    }
    Ok(gids)
}

/// A line of /etc/passwd.
struct Account<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: Option<String>,
}

impl Account<'_> {
    /// Of a number without a line.
    fn bare(uid: u32) -> Self {
        Self { name: b"", uid, gid: uid, home: None }
    }
}

/// A line of /etc/group.
struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

fn accounts(passwd: Option<&[u8]>) -> impl Iterator<Item = Account<'_>> {
    lines(passwd).filter_map(|line| {
        // name:password:uid:gid:comment:home:shell
        let [name, _, uid, gid, _, home, _] = fields(line)?;
        Some(Account { name, uid: id_field(uid)?, gid: id_field(gid)?, home: home_field(home) })
            .filter(|account| is_name(account.name))
    })
}

fn groups(group: Option<&[u8]>) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        // name:password:gid:members
        let [name, _, gid, members] = fields(line)?;
        Some(Group { name, gid: id_field(gid)?, members }).filter(|group| is_name(group.name))
    })
}

fn lines(content: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
    content.unwrap_or_default().split(|b| *b == b'\n')
}

/// Exactly so many fields.
fn fields<const N: usize>(line: &[u8]) -> Option<[&[u8]; N]> {
    let mut fields = [&line[..0]; N];
    let mut parts = line.split(|b| *b == b':');
    for field in &mut fields {
        *field = parts.next()?;
    }
    parts.next().is_none().then_some(fields)
}

fn id_field(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok().and_then(id)
}

/// An absolute path without control characters, since it becomes an environment variable; otherwise none.
fn home_field(field: &[u8]) -> Option<String> {
    let home = std::str::from_utf8(field).ok()?;
    let good = home.starts_with('/') && home.len() <= HOME_MAX && !home.chars().any(char::is_control);
    good.then(|| home.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        :x:5:5::/:/bin/sh\n\
        bad:x:-1:0::/:/bin/sh\n\
        wide:x:4294967296:0::/:/bin/sh\n\
        leave:x:4294967295:0::/:/bin/sh\n\
        short:x:7:7\n\
        long:x:8:8::/:/bin/sh:more\n\
        octal:x:010:010::/:/bin/sh\n\
        +nis:x:9:9::/:/bin/sh\n\
        web:x:33:34:Web,,,:/var/www:/usr/sbin/nologin\n\
        web:x:99:99::/second:/bin/sh\n\
        twin:x:33:77::/twin:/bin/sh\n\
        host$:x:50:50::relative:/bin/sh\n\
        \xff\xfe:x:60:60::/:/bin/sh\n\
        odd:x:61:61::/od\x01d:/bin/sh\n\
        last:x:70:70::/last:/bin/sh";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:34:web\nlogs:x:4:root,web,last\nagain:x:4:web\nbad:x:zz:web\n\
        short:x:5\nlong:x:6:web:x\nprefix:x:7:webber,aweb\nlate:x:200:web";

    fn at(text: &str) -> Result<(u32, u32, Vec<u32>, Option<String>), String> {
        resolve(&parse_user(text)?, Some(PASSWD), Some(GROUP)).map(|r| (r.uid, r.gid, r.groups, r.home))
    }

    #[test]
    fn requests() {
        let id = NameOrId::Id;
        let name = |name: &str| NameOrId::Name(name.to_owned());
        for (text, user, group) in [
            ("0", id(0), None),
            ("1000:1001", id(1000), Some(id(1001))),
            ("4294967294", id(4_294_967_294), None),
            ("web", name("web"), None),
            ("web:logs", name("web"), Some(name("logs"))),
            ("_a.b-c$:5", name("_a.b-c$"), Some(id(5))),
        ] {
            assert_eq!(parse_user(text), Ok(UserRequest { user, group }), "{text}");
        }
        for bad in [
            "",
            ":",
            "1:",
            ":1",
            "1:2:3",
            "-1",
            "+1",
            "1 ",
            " 1",
            "0x10",
            "1e3",
            "007",
            "00",
            "1a",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "a b",
            "a/b",
            "a\nb",
            "a\0",
            "$",
            "a$b",
            "-a",
            ".a",
            "é",
            "٣",
            "a:",
            "web:-1",
            "web:4294967295",
        ] {
            assert!(parse_user(bad).is_err(), "{bad:?}");
        }
        assert!(parse_user(&"a".repeat(257)).is_err());
    }

    #[test]
    fn names_and_numbers_are_looked_up() {
        let home = |home: &str| Some(home.to_owned());
        assert_eq!(at("root"), Ok((0, 0, vec![4], home("/root"))));
        assert_eq!(at("web"), Ok((33, 34, vec![4, 200], home("/var/www"))));
        assert_eq!(at("33"), at("web"), "the first line of a number");
        assert_eq!(at("web:logs"), Ok((33, 4, vec![], home("/var/www"))));
        assert_eq!(at("web:12"), Ok((33, 12, vec![], home("/var/www"))));
        assert_eq!(at("last"), Ok((70, 70, vec![4], home("/last"))));
        assert_eq!(at("1234"), Ok((1234, 1234, vec![], None)), "not in the file: the same group");
        assert_eq!(at("1234:www"), Ok((1234, 34, vec![], None)));
        assert_eq!(at("host$"), Ok((50, 50, vec![], None)), "a relative home is none");
        assert_eq!(at("61"), Ok((61, 61, vec![], None)), "so is one with control characters");
    }

    #[test]
    fn malformed_lines_are_not_there() {
        for name in ["bad", "wide", "leave", "short", "long", "octal", "nis", "nobody"] {
            assert!(at(name).unwrap_err().contains("/etc/passwd"), "{name}");
        }
        for id in [5, 7, 8, 9, 10, 60] {
            assert_eq!(at(&id.to_string()), Ok((id, id, vec![], None)));
        }
        for name in ["web:bad", "web:short", "web:long", "web:nothing"] {
            assert!(at(name).unwrap_err().contains("/etc/group"), "{name}");
        }
    }

    #[test]
    fn a_container_without_the_files_has_numbers_and_root() {
        let bare = |text: &str| resolve(&parse_user(text).unwrap(), None, None);
        assert_eq!(bare("5:6").map(|r| (r.uid, r.gid)), Ok((5, 6)));
        assert_eq!(bare("root:root").map(|r| (r.uid, r.gid)), Ok((0, 0)));
        assert!(bare("web").unwrap_err().contains("has no /etc/passwd"));
        assert!(bare("5:web").unwrap_err().contains("has no /etc/group"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_files_never_panic_and_never_give_the_forbidden_id(
            text in "[a-c0-9:]{1,6}",
            passwd in "([a-c:0-9/\\n]{0,20}|[a-c]:x:[0-9]{1,12}:[0-9]{1,12}::/[a-z]{0,3}:/s\\n){0,12}",
            group in "([a-c:0-9,\\n]{0,20}|[a-c]:x:[0-9]{1,12}:[a-c,]{0,6}\\n){0,12}",
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let Ok(request) = parse_user(&text) else { return Ok(()) };
            let _ = resolve(&request, Some(&noise), Some(&noise));
            if let Ok(resolved) = resolve(&request, Some(passwd.as_bytes()), Some(group.as_bytes())) {
                prop_assert!(resolved.uid <= ID_MAX && resolved.gid <= ID_MAX);
                prop_assert!(resolved.groups.iter().all(|gid| *gid <= ID_MAX && *gid != resolved.gid));
            }
        }
    }
}
