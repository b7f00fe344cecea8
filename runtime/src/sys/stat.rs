//! `/proc/PID/stat`, as proc_pid_stat(5) has it. Its second field is a name that may hold anything, parentheses and blanks too.

/// What it says of a process, or of a zombie.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stat(String);

impl Stat {
    /// Of this process; `None`: there is none.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::parse(std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: String) -> Option<Self> {
        let (head, rest) = text.rsplit_once(") ")?;
        (head.contains(" (") && !rest.is_empty()).then_some(Self(text))
    }

    /// The name, of at most 15 bytes.
    pub(crate) fn name(&self) -> &str {
        self.0.rsplit_once(") ").and_then(|(head, _)| head.split_once(" (")).map_or("", |(_, name)| name)
    }

    /// `R`, `S`, `D`, `T`, `Z` and the like.
    pub(crate) fn state(&self) -> char {
        self.behind_the_name().next().and_then(|word| word.chars().next()).unwrap_or('?')
    }

    /// It has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.state(), 'Z' | 'X')
    }

    pub(crate) fn session(&self) -> Option<i32> {
        self.field(6)
    }

    /// In clock ticks since the boot.
    pub(crate) fn start_time(&self) -> Option<u64> {
        self.field(22)
    }

    /// Processor time in user mode and in the kernel, in clock ticks; with that of the children that were waited for.
    pub(crate) fn ticks(&self) -> [u64; 2] {
        let sum = |own: usize, children: usize| -> u64 {
            [own, children].into_iter().filter_map(|number| self.field::<u64>(number)).sum()
        };
        [sum(14, 16), sum(15, 17)]
    }

    pub(crate) fn threads(&self) -> u64 {
        self.field(20).unwrap_or(0)
    }

    /// Pages that are in memory, shared ones included.
    pub(crate) fn resident_pages(&self) -> u64 {
        self.field(24).unwrap_or(0)
    }

    /// As wait(2) says it; 0 for who may not look into the process (`PTRACE_MODE_READ_FSCREDS`). Right also for a process of
    /// several threads since 5.17.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.field(52)
    }

    /// By the number that the manual page gives it; from the third on.
    fn field<T: std::str::FromStr>(&self, number: usize) -> Option<T> {
        self.behind_the_name().nth(number - 3)?.parse().ok()
    }

    fn behind_the_name(&self) -> std::str::SplitAsciiWhitespace<'_> {
        self.0.rsplit_once(") ").map_or("", |(_, rest)| rest).split_ascii_whitespace()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_whatever_the_name_is() {
        let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let stat = Stat::parse(format!("17 (a) S (b)) T {}\n", fields.join(" "))).unwrap();
        assert_eq!((stat.name(), stat.state(), stat.is_alive()), ("a) S (b)", 'T', true));
        assert_eq!((stat.session(), stat.start_time(), stat.exit_code()), (Some(6), Some(22), Some(52)));
        assert_eq!((stat.ticks(), stat.threads(), stat.resident_pages()), ([14 + 16, 15 + 17], 20, 24));
        let short = Stat::parse("17 (a) Z 1 2".into()).unwrap();
        assert_eq!((short.is_alive(), short.session(), short.exit_code()), (false, None, None));
        for bad in ["", "17", "17 (a", "17 (a) ", "17 a) R"] {
            assert_eq!(Stat::parse(bad.into()), None, "{bad:?}");
        }
    }

    #[test]
    fn this_process_is_seen_and_no_process_is_not() {
        let own = Stat::of(std::process::id().cast_signed()).unwrap();
        assert!(own.is_alive() && own.session().is_some() && own.start_time() > Some(0), "{own:?}");
        assert_eq!(own.exit_code(), Some(0));
        assert_eq!(Stat::of(i32::MAX), None);
    }
}
