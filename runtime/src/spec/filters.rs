//! The system call filter of a process: our profile and further filters, merged and compiled once.

use std::sync::Arc;

use super::caps::CapSet;
use super::{ProcessSpec, Seccomp};
use crate::seccomp::{self, Action, Arch, Filter};

/// What the child loads.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// `struct sock_filter` records.
    pub program: Arc<[u8]>,
    /// It asks a listener.
    pub listens: bool,
}

/// What the start itself calls between the load and the end of the exec, or to say why it has failed. Nobody could answer
/// a question about these: the listener is delivered by one of them.
const OF_THE_START: [&str; 5] = ["sendmsg", "prctl", "execve", "write", "exit_group"];

/// The filter of a process whose bounding set is `bounding`; `None`: unconfined.
pub(super) fn compile(spec: &ProcessSpec, bounding: CapSet) -> Result<Option<Compiled>, String> {
    if spec.filters.is_empty() {
        let program = || seccomp::compile_default(bounding).into();
        return Ok((spec.seccomp == Seccomp::Default).then(|| Compiled { program: program(), listens: false }));
    }
    let profile = (spec.seccomp == Seccomp::Default).then(|| seccomp::default_profile(bounding));
    let (compat, own): (Vec<Filter>, Vec<Filter>) = spec.filters.iter().cloned().partition(is_compat);
    if profile.is_some() && !compat.is_empty() {
        return Err(
            "the default profile ends what makes calls of 32-bit programs; without it they can be filtered".into()
        );
    }
    let all: Vec<Filter> = profile.into_iter().chain(own).collect();
    let merge = |filters: &[Filter]| seccomp::merge(filters).map_err(|error| error.to_string());
    let mut merged = vec![merge(&all)?];
    if !compat.is_empty() {
        merged.push(merge(&compat)?);
    }
    let asks = |filter: &Filter| {
        filter.default == Action::Notify || filter.rules.iter().any(|rule| rule.action == Action::Notify)
    };
    let listens = merged.iter().any(asks);
    if listens {
        // The start itself makes calls of this machine's own.
        merged.first().map_or(Ok(()), startable)?;
    }
    let program = seccomp::assemble_all(&merged).map_err(|error| error.to_string())?;
    Ok(Some(Compiled { program: seccomp::encode(&program).into(), listens }))
}

/// It is about the calls of 32-bit programs.
fn is_compat(filter: &Filter) -> bool {
    let compat = Arch::native().compat();
    !filter.arches.is_empty() && filter.arches.iter().all(|arch| Some(*arch) == compat)
}

fn startable(filter: &Filter) -> Result<(), String> {
    for name in OF_THE_START {
        let Some(number) = seccomp::syscall_number(name) else { continue };
        let mut rules = filter.rules.iter().filter(|rule| rule.syscall == number).peekable();
        let by_default = rules.peek().is_none() && filter.default == Action::Notify;
        let of_listener = |action: Action| {
            // The listener must arrive, whatever else happens.
            action == Action::Notify || (name == "sendmsg" && !matches!(action, Action::Allow | Action::Log))
        };
        if by_default || rules.any(|rule| of_listener(rule.action)) {
            return Err(format!(
                "SCMP_ACT_NOTIFY cannot be used for the {name} syscall: the start of a process with a listener calls it"
            ));
        }
    }
    Ok(())
}
