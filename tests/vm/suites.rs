//! What runs in the machine, in this order.

/// Set in the machine: this program is the guest.
pub(crate) const GUEST: &str = "ORANGERY_VM_GUEST";
/// Printed before a suite, with its name.
pub(crate) const BEGIN: &str = "VM-SUITE";
/// Printed after it, with its exit code or signal.
pub(crate) const END: &str = "VM-END";
/// Printed when all have run.
pub(crate) const DONE: &str = "VM-DONE";
/// An ordinary user in the machine.
pub(crate) const USER: u32 = 1000;
/// More suites for one run, such as `limits,lifecycle@user`: test targets of this package that use the kit. The host
/// side puts it on the kernel's command line, from where it comes into the environment of pid 1.
pub(crate) const MORE: &str = "ORANGERY_VM_SUITES";
/// The library's unit tests, by cargo's name for the target.
pub(crate) const RUNTIME: &str = "orangery_runtime";

type Args = &'static [&'static str];

/// No colours: the console is a terminal.
const HARNESS: Args = &["--color=never", "--test-threads=1"];
const UNIT: Args = &["--color=never", "--test-threads=2", "cgroup::", "--skip=pure_v2", "--skip=costs"];
const PLACES: Args = &["--color=never", "--test-threads=1", "--ignored", "pure_v2::places"];
const WITHOUT: Args = &["--color=never", "--test-threads=1", "--ignored", "pure_v2::without"];

/// One program with its arguments. Its console output is read as libtest's (`test NAME ... ok`).
#[derive(Clone, Debug)]
pub(crate) struct Suite {
    /// How its trials are called here: `NAME::trial`.
    pub(crate) name: String,
    /// The cargo test target that it is built from.
    pub(crate) target: String,
    pub(crate) args: Args,
    /// Runs as the ordinary user.
    pub(crate) user: bool,
    /// Written for newer kernels: its files are where this one can map ids, too.
    pub(crate) elsewhere: bool,
}

impl Suite {
    fn new(name: &str, target: &str, args: Args) -> Self {
        Self { name: name.into(), target: target.into(), args, user: name.ends_with("@user"), elsewhere: false }
    }

    /// Where its program is in the machine.
    pub(crate) fn program(&self) -> String {
        format!("/suites/{}", self.target)
    }
}

/// All suites: ours, namespaces that are joined, what [`MORE`] asks for, the cgroup module's unit tests. The last two of these move the test process
/// about and give up root for good.
pub(crate) fn all() -> Vec<Suite> {
    let more = std::env::var(MORE).unwrap_or_default();
    let more = more.split(',').filter(|name| !name.is_empty());
    let more = more.map(|name| Suite { elsewhere: true, ..Suite::new(name, name.trim_end_matches("@user"), HARNESS) });
    let unit = [UNIT, PLACES, WITHOUT].map(|args| Suite::new("unit", RUNTIME, args));
    // Where cgroup2 is mounted as systemd does it, and on a kernel that tells less about namespaces.
    let joining = Suite { elsewhere: true, ..Suite::new("joining", "joining", HARNESS) };
    [Suite::new("guest", "vm", HARNESS), joining].into_iter().chain(more).chain(unit).collect()
}
